package config

import "fmt"

// hint is the end of an error about an unknown name: the nearest known one if
// any is near, or else what there is.
func hint(name string, known []string) string {
	if near := nearest(name, known); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return "expected " + oneOf(known)
}

// nearest returns the known name with the fewest edits from name, "" when none
// is within a third of its length.
func nearest(name string, known []string) string {
	if len(name) > maxName {
		return ""
	}
	best, fewest := "", max(1, len(name)/3)+1
	for _, k := range known {
		if n := distance(name, k); n < fewest {
			best, fewest = k, n
		}
	}
	return best
}

// distance counts the insertions, deletions, substitutions and swaps of
// neighbours that make b of a, each place edited at most once (optimal string
// alignment), letter case not counted.
func distance(a, b string) int {
	var before, above, row []int
	row = make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, above, row = above, row, make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if same(a[i-1], b[j-1]) {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && same(a[i-1], b[j-2]) && same(a[i-2], b[j-1]) {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}

func same(a, b byte) bool { return lower(a) == lower(b) }

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// Nearest returns the known name with the fewest edits from name, "" when none
// is near: for errors about names that are not the schema's.
func Nearest(name string, known []string) string { return nearest(name, known) }
