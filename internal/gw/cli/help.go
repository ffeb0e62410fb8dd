package cli

//go:generate go test -run ^TestManual$ -update

import (
	"fmt"
	"strings"

	"moongate/internal/gw/ops"
)

// keysHelp is what the line editor does for who asks.
const keysHelp = `
Tab completes a word, ? lists what may follow, with help. Ctrl-R searches the
lines before. | match, | except, | count, | json and | xml filter the output.
`

// help says what the mode has: a line for each command.
func (s *session) help() string {
	var b strings.Builder
	line := func(usage, help string) {
		if len(usage) <= 40 {
			fmt.Fprintf(&b, "  %-40s  %s\n", usage, help)
		} else {
			fmt.Fprintf(&b, "  %s\n  %40s  %s\n", usage, "", help)
		}
	}
	if s.configuring {
		for _, c := range commands() {
			line(strings.TrimSpace(c.name+" "+c.usage), c.help)
		}
		return b.String() + keysHelp
	}
	line("configure", "change the configuration")
	line("exit", "end the session")
	for _, known := range settings {
		line("set cli "+known.name+" "+strings.Join(known.words, "|"), known.help)
	}
	for _, c := range ops.Commands() {
		line(c.Words, c.Help)
	}
	return b.String() + keysHelp
}
