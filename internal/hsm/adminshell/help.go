package adminshell

import (
	"cmp"
	"fmt"
	"strings"
)

// asksHelp reports whether a line asks for help, and about what: nothing, or
// the words of a command or of its beginning.
func asksHelp(words []string) ([]string, bool) {
	if len(words) == 0 {
		return nil, true
	}
	if isOneOf(words[0], "help", "?") {
		return words[1:], true
	}
	if last := len(words) - 1; isOneOf(words[last], "?", "-help", "--help") {
		return words[:last], true
	}
	return words, false
}

// help prints one command's usage, or lists those that begin with the words.
func (s *Shell) help(words []string) error {
	cmd, _, err := find(s.commands, words)
	if err == nil {
		fmt.Fprint(s.term, cmd.usage())
		return nil
	}
	list, known := beginning(s.commands, words)
	if !known {
		return err
	}
	fmt.Fprint(s.term, listing(list))
	if len(words) == 0 {
		fmt.Fprint(s.term, listing(builtins))
	}
	return nil
}

// beginning returns the commands that the words begin; known is false where
// there are none.
func beginning(list []command, words []string) ([]command, bool) {
	candidates := make([]*command, len(list))
	for i := range list {
		candidates[i] = &list[i]
	}
	for depth, word := range words {
		candidates = narrow(candidates, depth, word)
	}
	found := make([]command, len(candidates))
	for i, c := range candidates {
		found[i] = *c
	}
	return found, len(found) > 0
}

// builtins are what an Interpreter does itself.
var builtins = []command{
	{words: "help", help: "List the commands, or explain the one named after it; `?` does too."},
	{words: "exit", help: "End the session; `quit` does too."},
}

// Help lists every command.
func Help() string { return listing(commands()) }

func listing(list []command) string {
	var b strings.Builder
	for _, c := range list {
		fmt.Fprintf(&b, "  %-26s %s\n", c.words, c.summary())
	}
	return b.String()
}

// summary is the first line of the help.
func (c *command) summary() string {
	first, _, _ := strings.Cut(c.help, "\n")
	return first
}

// synopsis is the command with its options, as it is typed.
func (c *command) synopsis() string {
	form := c.words
	for _, o := range c.options {
		part := "-" + o.name
		if o.operand {
			part = o.value
		} else if o.value != "" {
			part += " " + o.value
		}
		if !o.required {
			part = "[" + part + "]"
		}
		form += " " + part
	}
	return form
}

func (c *command) usage() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: %s\n\n%s\n", c.synopsis(), c.help)
	for _, o := range c.options {
		fmt.Fprintf(&b, "  %-22s %s\n", o.spelling(), o.help)
	}
	return b.String()
}

// spelling is how an option may be written.
func (o *option) spelling() string {
	switch {
	case o.operand:
		return cmp.Or(o.value, o.name)
	case o.short != "":
		return "-" + o.short + ", -" + o.name
	}
	return "-" + o.name
}
