package adminshell

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// Words splits a command line at spaces. A word with spaces is written as a
// string literal of Go, which strconv.Quote makes: "a b", with \" and \\ for
// quotation mark and backslash.
func Words(line string) ([]string, error) {
	var words []string
	for {
		line = strings.TrimLeftFunc(line, unicode.IsSpace)
		if line == "" {
			return words, nil
		}
		end := strings.IndexFunc(line, unicode.IsSpace)
		if end < 0 {
			end = len(line)
		}
		word := line[:end]
		if line[0] == '"' {
			quoted, err := strconv.QuotedPrefix(line)
			if err != nil {
				return nil, fmt.Errorf("%w: a quotation mark is not closed, or holds a backslash that is not doubled: %s", errUsage, line)
			}
			if end = len(quoted); end < len(line) && strings.IndexFunc(line[end:], unicode.IsSpace) != 0 {
				return nil, fmt.Errorf("%w: a space is expected after %s", errUsage, quoted)
			}
			if word, err = strconv.Unquote(quoted); err != nil {
				return nil, fmt.Errorf("%w: %s is no quoted word", errUsage, quoted)
			}
		}
		words, line = append(words, word), line[end:]
	}
}
