package cli

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"moongate/internal/gw/ops"
)

// Bounds of a line, beyond those that the shell has.
const (
	maxWords = 1000
	maxPipes = 8
)

// line is a command line in its parts: the command's words, and what its output
// goes through.
type line struct {
	words []word
	pipes []filter
}

// word is one word of a line. A quoted one is a value, never a bracket.
type word = ops.Token

func is(w word, symbol string) bool { return !w.Quoted && w.Text == symbol }

// texts are the words without their quotation marks.
func texts(words []word) []string {
	list := make([]string, len(words))
	for i, w := range words {
		list[i] = w.Text
	}
	return list
}

// parseLine reads a line: words are apart by white space; a word within double
// quotation marks may hold any, with \" \\ \n and \t for a quotation mark, a
// backslash, a newline and a tab; [ and ] are words of their own where white
// space or the line's end is beside them; | begins a filter of the output.
func parseLine(text string) (line, error) {
	words, err := split(text)
	if err != nil {
		return line{}, err
	}
	var l line
	for i, w := range words {
		if !is(w, "|") {
			continue
		}
		l.pipes, err = parseFilters(words[i:])
		words = words[:i]
		if err != nil {
			return line{}, err
		}
		break
	}
	l.words = words
	return l, nil
}

// split cuts a line into words.
func split(text string) ([]word, error) {
	var words []word
	rest := strings.TrimLeftFunc(text, unicode.IsSpace)
	for rest != "" {
		if len(words) == maxWords {
			return nil, fmt.Errorf("the line has more than %d words", maxWords)
		}
		if rest[0] != '"' {
			end := strings.IndexFunc(rest, unicode.IsSpace)
			if end < 0 {
				end = len(rest)
			}
			words = append(words, word{Text: rest[:end]})
			rest = strings.TrimLeftFunc(rest[end:], unicode.IsSpace)
			continue
		}
		value, after, err := unquote(rest[1:])
		if err != nil {
			return nil, err
		}
		words = append(words, word{Text: value, Quoted: true})
		rest = strings.TrimLeftFunc(after, unicode.IsSpace)
		if rest == after && rest != "" {
			return nil, errors.New("a quotation mark ends within a word: white space is expected after it")
		}
	}
	return words, nil
}

// unquote reads up to the closing quotation mark, and returns what follows it.
func unquote(s string) (value, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:], nil
		case c != '\\':
			b.WriteByte(c)
		case i+1 == len(s):
			return "", "", errors.New("the line ends within quotation marks")
		default:
			i++
			switch s[i] {
			case 'n':
				b.WriteByte('\n')
			case 't':
				b.WriteByte('\t')
			case '"', '\\':
				b.WriteByte(s[i])
			default:
				return "", "", fmt.Errorf(`\%c is not known within quotation marks, expected \" \\ \n or \t`, s[i])
			}
		}
	}
	return "", "", errors.New("the line ends within quotation marks")
}

// quote writes a value as a word that split reads back.
func quote(value string) string {
	if value != "" && !strings.ContainsFunc(value, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune(`"\|[]`, r) }) {
		return value
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`, "\r", "").Replace(value) + `"`
}
