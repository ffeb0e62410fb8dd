package ops

import (
	"context"
	"slices"
	"strings"

	"moongate/internal/gw/mgmt"
)

// Complete returns how a command may go on after whole tokens, with partial the
// beginning of the next one. A word in angle brackets stands for a value that
// the user chooses. Values that are known (certificates, jobs) are asked of the
// manager as the caller; nil for no manager.
func Complete(ctx context.Context, m *mgmt.Manager, caller mgmt.Caller, tokens []Token, partial string) []Option {
	list, depth, err := narrow(tokens, false)
	if err != nil {
		return nil
	}
	var found []Option
	cmd := endsAt(list, depth)
	if depth == len(tokens) {
		for _, word := range wordsAt(list, depth) {
			if strings.HasPrefix(word, partial) {
				found = append(found, Option{word, helpAt(list, depth, word)})
			}
		}
	}
	if cmd == nil {
		return found
	}
	p := parser{call: &Call{Command: cmd, values: map[string][]string{}}}
	for rest := tokens[depth:]; len(rest) > 0; {
		next, err := p.next(rest)
		if err != nil {
			return append(found, p.waiting(ctx, m, caller, rest, partial)...)
		}
		rest = next
	}
	return append(found, p.options(ctx, m, caller, partial)...)
}

// helpAt says what a word of commands leads to: the help of the one command
// that it ends, or the words that follow.
func helpAt(list []*Command, depth int, word string) string {
	same := matching(list, depth, word, true)
	if cmd := endsAt(same, depth+1); cmd != nil {
		return cmd.Help
	}
	if help, known := topics[strings.Join(strings.Fields(same[0].Words)[:depth+1], " ")]; known {
		return help
	}
	return strings.Join(wordsAt(same, depth+1), ", ")
}

// waiting completes the value of an argument whose name is the last token, or
// one more of a list that is open.
func (p *parser) waiting(ctx context.Context, m *mgmt.Manager, caller mgmt.Caller, rest []Token, partial string) []Option {
	if rest[0].Quoted {
		return nil
	}
	a, group, err := p.keyword(rest[0].Text)
	switch {
	case err != nil, p.call.values == nil:
		return nil
	case group != "" && len(rest) == 1:
		p.group = group
		return p.options(ctx, m, caller, partial)
	case a == nil || p.call.Has(a.Name):
		return nil
	}
	after := rest[1:]
	if a.Equal && len(after) > 0 && after[0].is("equal") {
		after = after[1:]
	}
	switch {
	case len(after) == 0:
		return a.candidates(ctx, m, caller, partial)
	case a.Kind == List && after[0].is("[") && !slices.ContainsFunc(after, func(t Token) bool { return t.is("]") }):
		found := a.candidates(ctx, m, caller, partial)
		if len(after) > 1 && partial == "" {
			found = append(found, Option{"]", "end of the list"})
		}
		return found
	}
	return nil
}

// options are the arguments that may come next.
func (p *parser) options(ctx context.Context, m *mgmt.Manager, caller mgmt.Caller, partial string) []Option {
	var found []Option
	shownGroups := map[string]bool{}
	for i := range p.call.Command.Args {
		a := &p.call.Command.Args[i]
		switch {
		case p.call.Has(a.Name):
		case a.Bare:
			found = append(found, a.candidates(ctx, m, caller, partial)...)
		case a.Within != "" && a.Within != p.group:
			if !shownGroups[a.Within] && strings.HasPrefix(a.Within, partial) {
				found = append(found, Option{a.Within, topics[a.Within]})
			}
			shownGroups[a.Within] = true
		case strings.HasPrefix(a.Name, partial):
			found = append(found, Option{a.Name, a.Help})
		}
	}
	return found
}

// candidates are the values that begin with partial. Where they are not known,
// a placeholder says what is expected.
func (a *Arg) candidates(ctx context.Context, m *mgmt.Manager, caller mgmt.Caller, partial string) []Option {
	var values []Option
	switch {
	case a.Kind == Choice:
		values = a.Choices
	case a.known != nil && m != nil:
		values = a.known(ctx, m, caller)
	}
	var found []Option
	for _, v := range values {
		if strings.HasPrefix(v.Word, partial) {
			found = append(found, v)
		}
	}
	if a.Kind != Choice && partial == "" && len(values) == 0 {
		found = append(found, Option{a.placeholder(), a.Help})
	}
	return found
}

// Help says how the command is typed: a synopsis and a line for each argument.
func (c *Command) Usage() string {
	var b strings.Builder
	b.WriteString(c.Words)
	group := ""
	for _, a := range c.Args {
		form := a.Name
		switch {
		case a.Bare:
			form = a.placeholder()
		case a.Kind == Choice:
			words := make([]string, len(a.Choices))
			for i, o := range a.Choices {
				words[i] = o.Word
			}
			form += " " + strings.Join(words, "|")
		case a.Kind == List:
			form += " [ " + a.placeholder() + " ... ]"
		case a.Kind != Flag:
			form += " " + a.placeholder()
		}
		if a.Within != group {
			group = a.Within
			if group != "" {
				form = group + " " + form
			}
		}
		if !a.Required || a.Unless != "" {
			form = "[" + form + "]"
		}
		b.WriteString(" " + form)
	}
	b.WriteString("\n\n" + c.Help + "\n")
	for _, a := range c.Args {
		name := a.Name
		if a.Bare {
			name = a.placeholder()
		}
		b.WriteString("  " + name + strings.Repeat(" ", max(1, 26-len(name))) + a.Help + "\n")
	}
	return b.String()
}
