// Package ops is the one grammar of a gateway's operational commands, for the
// words of its CLI, the XML of its API, and the help of both.
//
// A command is a row of one table (table.go): its words, its arguments, what it
// calls of mgmt, and how the answer is XML and how it is text. The same command
// is typed and sent:
//
//	show jobs id 7
//	<show><jobs><id>7</id></jobs></show>
//
// [Parse] reads the first form, [ParseXML] the second; both make a [Call],
// which is run once the secrets that are missing from it were asked for. The
// package decides nothing about who may: mgmt does.
package ops

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"moongate/internal/gw/mgmt"
)

// Command is a row of the table.
type Command struct {
	Words string // "show system info"
	Help  string // one line
	Args  []Arg
	// Caution is what a person must be asked before the command is run; ""
	// where nothing is lost by it. A program that sends the command has decided.
	Caution string

	run func(ctx context.Context, in *invocation) (*Result, error)
}

// Kind says what an argument's value is.
type Kind int

const (
	Text    Kind = iota // any printable text
	Number              // a decimal number from Min to Max
	Choice              // one of Choices
	Flag                // no value: the name alone
	List                // one or more texts: [ a b ]
	Secret              // a text that is never shown; asked for when it is required and missing
	Address             // an IP address, or a prefix
)

// Arg is an argument: its name and, unless it is a flag, a value. They stand in
// any order after the command's words.
type Arg struct {
	Name string
	Help string // one line
	Kind Kind
	// Value is what the value is called in the help, "name" for <name>.
	Value string
	// Bare values stand right after the command's words, without the name.
	Bare     bool
	Required bool
	// Unless names an argument with which a required one is not required.
	Unless string
	// Within is a word that stands before the first argument of its group:
	// show session all filter source 192.0.2.1 destination 192.0.2.2.
	Within   string
	Choices  []Option // of a Choice
	Min, Max int      // of a Number; Max 0 is no bound
	// Equal allows the word equal before the value, as log queries have it.
	Equal bool
	// Prompt asks for a missing Secret; Twice does so again to compare.
	Prompt string
	Twice  bool
	// wanted says whether a Secret that is not required is asked for all the
	// same, as things are.
	wanted func(call *Call, m *mgmt.Manager, c mgmt.Caller) bool

	// known lists the values that there are, for completion.
	known func(ctx context.Context, m *mgmt.Manager, c mgmt.Caller) []Option
}

// Option is a value or a word, with its help.
type Option struct{ Word, Help string }

// Commands are the rows, in the order of their words. They are not to be
// written to.
func Commands() []*Command { return table }

// Call is a command with its arguments, ready to be run.
type Call struct {
	Command *Command
	values  map[string][]string // by argument; a flag's is empty
	named   map[string]bool     // secrets that were named without a value: they are asked for
}

// Has reports whether an argument was given.
func (c *Call) Has(name string) bool {
	_, given := c.values[name]
	return given
}

// lacks reports whether an argument is required, or was named without a value,
// and was not given.
func (c *Call) lacks(a Arg) bool {
	needed := a.Required && (a.Unless == "" || !c.Has(a.Unless)) || c.named[a.Name]
	return needed && !c.Has(a.Name)
}

// Value returns an argument's value, "" when it was not given.
func (c *Call) Value(name string) string {
	if v := c.values[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// Values returns the values of a list.
func (c *Call) Values(name string) []string { return c.values[name] }

// Missing returns the secrets that the command needs and the call lacks: who
// types is asked for them, without an echo.
func (c *Call) Missing() []Arg {
	var missing []Arg
	for _, a := range c.Command.Args {
		if a.Kind == Secret && c.lacks(a) {
			missing = append(missing, a)
		}
	}
	return missing
}

// Wanted returns the secrets that the call lacks and need not have, but for how
// things are with the gateway: who types is asked for them, too.
func (c *Call) Wanted(m *mgmt.Manager, caller mgmt.Caller) []Arg {
	var wanted []Arg
	for _, a := range c.Command.Args {
		if a.wanted != nil && !c.Has(a.Name) && a.wanted(c, m, caller) {
			wanted = append(wanted, a)
		}
	}
	return wanted
}

// Answer gives the call a secret that was missing.
func (c *Call) Answer(name, secret string) error {
	i := slices.IndexFunc(c.Command.Args, func(a Arg) bool { return a.Name == name })
	if i < 0 {
		return refusal(mgmt.CodeInvalidCommand, "%s has no argument %s", c.Command.Words, name)
	}
	if err := c.Command.Args[i].check(secret); err != nil {
		return err
	}
	c.values[name] = []string{secret}
	return nil
}

// HasSecret reports whether the call holds a secret, so that the line which it
// was read from is not to be remembered as it was typed.
func (c *Call) HasSecret() bool {
	return slices.ContainsFunc(c.Command.Args, func(a Arg) bool { return a.Kind == Secret && c.Has(a.Name) })
}

// String writes the call as it may be typed, its secrets masked.
func (c *Call) String() string {
	var b strings.Builder
	b.WriteString(c.Command.Words)
	group := ""
	for _, a := range c.Command.Args {
		if !c.Has(a.Name) {
			continue
		}
		if a.Within != group {
			group = a.Within
			if group != "" {
				b.WriteString(" " + group)
			}
		}
		if !a.Bare {
			b.WriteString(" " + a.Name)
		}
		switch {
		case a.Kind == Secret:
			b.WriteString(" ********")
		case a.Kind == List:
			b.WriteString(" [")
			for _, v := range c.values[a.Name] {
				b.WriteString(" " + Quote(v))
			}
			b.WriteString(" ]")
		case a.Kind != Flag:
			b.WriteString(" " + Quote(c.Value(a.Name)))
		}
	}
	return b.String()
}

// Quote writes a value as one word of a command line.
func Quote(value string) string {
	if value != "" && !strings.ContainsAny(value, " \t\r\n\"\\|[]'") {
		return value
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`, "\r", "").Replace(value) + `"`
}

// invocation is what a row's function sees.
type invocation struct {
	*Call
	m        *mgmt.Manager
	caller   mgmt.Caller
	progress func(line string)
}

// Run runs the call for the caller. progress is called with lines that tell how
// far a long command is; it may be nil. An error is a *mgmt.Error where the
// caller did something that can be put right.
func (c *Call) Run(ctx context.Context, m *mgmt.Manager, caller mgmt.Caller, progress func(line string)) (*Result, error) {
	for _, a := range c.Command.Args {
		if c.lacks(a) {
			return nil, refusal(mgmt.CodeInvalidCommand, "%s is missing: %s", joined(c.Command, a), a.Help)
		}
	}
	if progress == nil {
		progress = func(string) {}
	}
	return c.Command.run(ctx, &invocation{Call: c, m: m, caller: caller, progress: progress})
}

// joined is a place in a command as the API's errors write it.
func joined(c *Command, a Arg) string {
	words := strings.Fields(c.Words)
	if a.Within != "" {
		words = append(words, a.Within)
	}
	return strings.Join(append(words, a.Name), " -> ")
}

func refusal(code mgmt.Code, format string, args ...any) *mgmt.Error {
	return &mgmt.Error{Code: code, Lines: []string{fmt.Sprintf(format, args...)}}
}

// JobName is what a job of the command is called in the answer that enqueues it.
func (c *Call) JobName() string {
	first, _, _ := strings.Cut(c.Command.Words, " ")
	return strings.ToUpper(first[:1]) + first[1:]
}
