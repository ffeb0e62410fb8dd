package vault

import (
	"fmt"
	"math"
)

// Entropy is an estimate of how many bits somebody has to guess, at most: what
// is typed by people has less.
type Entropy int

// Strength estimates how hard a master key is to guess from what it is made of:
// its length without runs and repetitions, and the kinds of its characters.
func Strength(given []byte) Entropy {
	var pool float64
	seen := [256]bool{}
	classes := [5]bool{}
	sizes := [5]float64{26, 26, 10, 33, 128}
	distinct, effective := 0, 0
	for i, c := range given {
		classes[classOf(c)] = true
		if !seen[c] {
			distinct++
		}
		seen[c] = true
		// A character that continues a run (aaa, abc, 321) or repeats what
		// stood there some characters before (abcabc) adds nothing.
		if !continues(given, i) {
			effective++
		}
	}
	for class, used := range classes {
		if used {
			pool += sizes[class]
		}
	}
	// Few different characters are a smaller pool, whatever their kinds.
	if 2*distinct <= len(given) {
		pool = float64(distinct)
	}
	if pool < 2 {
		return 0
	}
	return Entropy(float64(effective) * math.Log2(pool))
}

func classOf(c byte) int {
	switch {
	case 'a' <= c && c <= 'z':
		return 0
	case 'A' <= c && c <= 'Z':
		return 1
	case '0' <= c && c <= '9':
		return 2
	case c < 0x80:
		return 3
	}
	return 4
}

// continues says whether the character at i is told by those before it.
func continues(s []byte, i int) bool {
	if i >= 2 {
		step := int(s[i]) - int(s[i-1])
		if step == int(s[i-1])-int(s[i-2]) && -1 <= step && step <= 1 {
			return true
		}
	}
	// The three characters that end here stood together before.
	if i >= 5 {
		for j := 2; j <= i-3; j++ {
			if s[j] == s[i] && s[j-1] == s[i-1] && s[j-2] == s[i-2] {
				return true
			}
		}
	}
	return false
}

// String is the estimate in words. Words of a language have a third of what is
// estimated, so that nothing short of 100 bits is called strong: then even those
// are more guesses than the derivation lets anybody make.
func (e Entropy) String() string {
	word := "strong"
	switch {
	case e < 60:
		word = "weak"
	case e < 100:
		word = "fair"
	}
	return fmt.Sprintf("%s (at most %d bits)", word, int(e))
}
