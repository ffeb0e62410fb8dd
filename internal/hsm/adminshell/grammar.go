package adminshell

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"moongate/internal/hsm/users"
	"moongate/internal/shell"
)

// command is a row of the command table.
type command struct {
	words   string       // "client register"
	roles   []users.Role // that see it; RoleConsole sees every command
	options []option
	help    string
	run     func(*Shell, context.Context, args) error
	// needs is what must be there; control says that the serving process must,
	// accounts that the appliance's accounts must.
	needs             need
	control, accounts bool
}

// need is what a command cannot do without.
type need int

const (
	needHSM need = iota // that the HSM is initialised
	nothing
)

// stream says whether an option names a file of the caller's that is made or
// read while the command runs.
type stream int

const (
	noStream stream = iota
	toCaller
	fromCaller
)

type option struct {
	name     string // without the dash
	short    string // an abbreviation that wins over other options' prefixes
	value    string // what the value is called in the help; "" for a switch
	required bool
	operand  bool // may stand without its name: `service restart ntls`
	file     bool // the value names a small file on the caller's side
	inbox    bool // of a file: over SSH the value names one of the HSM's inbox
	stream   stream
	help     string
	// values are those that are known, for completion.
	values func(*Shell, args) []shell.Candidate
}

// visible reports whether a role has the command.
func (c *command) visible(role users.Role) bool {
	return role == users.RoleConsole || slices.Contains(c.roles, role)
}

// commandsOf returns the commands that a role sees.
func commandsOf(role users.Role) []command {
	return slices.DeleteFunc(commands(), func(c command) bool { return !c.visible(role) })
}

// args are the parsed options of one command line.
type args struct {
	values map[string]string
	files  map[string][]byte
}

func (a args) get(name string) string { return a.values[name] }

func (a args) has(name string) bool {
	_, given := a.values[name]
	return given
}

var errUsage = errors.New("syntax")

// find takes the command's words off the front of a line. Words may be
// abbreviated while they are unique within the list; case does not matter.
func find(list []command, words []string) (*command, []string, error) {
	candidates := make([]*command, len(list))
	for i := range list {
		candidates[i] = &list[i]
	}
	for depth, word := range words {
		next := narrow(candidates, depth, word)
		if len(next) == 0 {
			return nil, nil, fmt.Errorf("%w: %q is not a command; `help` lists them", errUsage, strings.Join(words[:depth+1], " "))
		}
		if names := wordsAt(next, depth); len(names) > 1 {
			return nil, nil, fmt.Errorf("%w: %q may be %s", errUsage, word, strings.Join(names, " or "))
		}
		candidates = next
		if len(candidates) == 1 && len(strings.Fields(candidates[0].words)) == depth+1 {
			return candidates[0], words[depth+1:], nil
		}
	}
	return nil, nil, fmt.Errorf("%w: %q is not complete; it goes on with %s", errUsage,
		strings.Join(words, " "), strings.Join(wordsAt(candidates, len(words)), ", "))
}

// narrow keeps the commands whose word at a depth is the typed one, or, where
// none is, begins with it.
func narrow(candidates []*command, depth int, word string) []*command {
	var exact, prefixed []*command
	for _, c := range candidates {
		parts := strings.Fields(c.words)
		if depth >= len(parts) {
			continue
		}
		switch part, typed := strings.ToLower(parts[depth]), strings.ToLower(word); {
		case part == typed:
			exact = append(exact, c)
		case strings.HasPrefix(part, typed):
			prefixed = append(prefixed, c)
		}
	}
	if len(exact) > 0 {
		return exact
	}
	return prefixed
}

// wordsAt lists the different words that the commands have at a depth.
func wordsAt(list []*command, depth int) []string {
	var names []string
	for _, c := range list {
		if parts := strings.Fields(c.words); depth < len(parts) && !slices.Contains(names, parts[depth]) {
			names = append(names, parts[depth])
		}
	}
	return names
}

func (c *command) parse(words []string, files map[string][]byte) (args, error) {
	a := args{values: map[string]string{}, files: files}
	for len(words) > 0 {
		o, value, rest, err := c.next(a, words)
		if err != nil {
			return a, err
		}
		if a.has(o.name) {
			return a, fmt.Errorf("%w: -%s is given twice", errUsage, o.name)
		}
		a.values[o.name], words = value, rest
	}
	for _, o := range c.options {
		if o.required && !a.has(o.name) {
			return a, fmt.Errorf("%w: -%s %s is missing\n%s", errUsage, o.name, o.value, c.usage())
		}
	}
	return a, nil
}

// next takes an option with its value, or an operand, off the front of words.
func (c *command) next(a args, words []string) (*option, string, []string, error) {
	word, rest := words[0], words[1:]
	if !strings.HasPrefix(word, "-") {
		for i := range c.options {
			if o := &c.options[i]; o.operand && !a.has(o.name) {
				return o, word, rest, nil
			}
		}
	}
	o, err := c.option(word)
	if err != nil {
		return nil, "", nil, err
	}
	if o.value == "" {
		return o, "", rest, nil
	}
	if len(rest) == 0 {
		return nil, "", nil, fmt.Errorf("%w: -%s needs a value, %s", errUsage, o.name, o.value)
	}
	return o, rest[0], rest[1:], nil
}

// option finds an option by its name, its short form, or a unique prefix.
func (c *command) option(word string) (*option, error) {
	typed, dashed := strings.CutPrefix(strings.ToLower(word), "-")
	if !dashed {
		return nil, fmt.Errorf("%w: %q is not expected here; options begin with a dash\n%s", errUsage, word, c.usage())
	}
	typed = strings.TrimPrefix(typed, "-")
	var prefixed []*option
	for i := range c.options {
		o := &c.options[i]
		if name := strings.ToLower(o.name); name == typed || o.short == typed && typed != "" {
			return o, nil
		} else if typed != "" && strings.HasPrefix(name, typed) {
			prefixed = append(prefixed, o)
		}
	}
	switch len(prefixed) {
	case 0:
		return nil, fmt.Errorf("%w: %s is not an option of %s\n%s", errUsage, word, c.words, c.usage())
	case 1:
		return prefixed[0], nil
	}
	names := make([]string, len(prefixed))
	for i, o := range prefixed {
		names[i] = "-" + o.name
	}
	return nil, fmt.Errorf("%w: %s may be %s", errUsage, word, strings.Join(names, " or "))
}

// streamOf returns the file that the command line lets the HSM make or read
// while it runs, and in which direction; noStream where it names none.
func streamOf(words []string) (string, stream) {
	cmd, rest, err := find(commands(), words)
	if err != nil {
		return "", noStream
	}
	a, err := cmd.parse(rest, nil)
	if err != nil {
		return "", noStream
	}
	for _, o := range cmd.options {
		if o.stream != noStream && a.has(o.name) {
			return a.get(o.name), o.stream
		}
	}
	return "", noStream
}

// FileOptions returns which options of the command line name small files on
// the caller's side, with the values given: they go into Request.Files.
func FileOptions(words []string) map[string]string {
	cmd, rest, err := find(commands(), words)
	if err != nil {
		return nil
	}
	a, err := cmd.parse(rest, nil)
	if err != nil {
		return nil
	}
	files := map[string]string{}
	for _, o := range cmd.options {
		if o.file && a.has(o.name) {
			files[o.name] = a.get(o.name)
		}
	}
	return files
}
