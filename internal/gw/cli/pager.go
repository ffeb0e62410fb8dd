package cli

import (
	"io"
	"strings"
)

// pager shows a long text a screen at a time.
type pager interface {
	// Key prints the prompt, waits for one key, and takes the prompt away.
	Key(prompt string) (rune, error)
	// Rows is the height of the screen, 0 where it is not known.
	Rows() int
}

// page writes a text to a terminal: a screen at a time where it has keys and a
// height. Space shows the next screen, Enter the next line, q ends.
func page(term io.Writer, text string) error {
	p, ok := term.(pager)
	if !ok || p.Rows() < 3 || strings.Count(text, "\n") < p.Rows() {
		_, err := io.WriteString(term, text)
		return err
	}
	room := p.Rows() - 1
	for text != "" {
		shown := 0
		for shown < len(text) && room > 0 {
			end := strings.IndexByte(text[shown:], '\n')
			if end < 0 {
				shown = len(text)
				break
			}
			shown += end + 1
			room--
		}
		if _, err := io.WriteString(term, text[:shown]); err != nil {
			return err
		}
		if text = text[shown:]; text == "" {
			return nil
		}
		for room == 0 {
			key, err := p.Key("--more-- (space, Enter, q)")
			if err != nil {
				return err
			}
			switch key {
			case ' ', 'f':
				room = p.Rows() - 1
			case '\r', '\n', 'j':
				room = 1
			case 'q', 'Q':
				return nil
			}
		}
	}
	return nil
}
