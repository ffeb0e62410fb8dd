package ops

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"moongate/internal/gw/mgmt"
)

// Token is one word of a command. A quoted one is a value and never a word of
// the grammar; [ and ] that are not quoted hold a list.
type Token struct {
	Text   string
	Quoted bool
}

func (t Token) is(symbol string) bool { return !t.Quoted && t.Text == symbol }

const (
	maxTokens = 2000
	maxValue  = 64 << 10 // bytes of one argument
)

// Parse reads a command as it is typed. Words of the grammar may be shortened
// while they are unique.
func Parse(tokens []Token) (*Call, error) { return parse(tokens, false) }

func parse(tokens []Token, exact bool) (*Call, error) {
	if len(tokens) > maxTokens {
		return nil, refusal(mgmt.CodeInvalidCommand, "the command has more than %d words", maxTokens)
	}
	cmd, rest, err := find(tokens, exact)
	if err != nil {
		return nil, err
	}
	p := parser{call: &Call{Command: cmd, values: map[string][]string{}, named: map[string]bool{}}, exact: exact}
	for len(rest) > 0 {
		if rest, err = p.next(rest); err != nil {
			return nil, err
		}
	}
	for _, a := range cmd.Args {
		if a.Kind != Secret && p.call.lacks(a) {
			return nil, refusal(mgmt.CodeInvalidCommand, "%s is missing: %s", joined(cmd, a), a.Help)
		}
	}
	return p.call, nil
}

// find takes the command's words off the front of the tokens.
func find(tokens []Token, exact bool) (*Command, []Token, error) {
	list, depth, err := narrow(tokens, exact)
	if err != nil {
		return nil, nil, err
	}
	if cmd := endsAt(list, depth); cmd != nil {
		return cmd, tokens[depth:], nil
	}
	if depth < len(tokens) {
		return nil, nil, unexpected(tokens[:depth], tokens[depth], wordsAt(list, depth))
	}
	path := pathOf(tokens)
	if path == "" {
		path = "the command"
	}
	return nil, nil, refusal(mgmt.CodeInvalidCommand, "%s is not complete, expected %s", path, oneOf(wordsAt(list, depth)))
}

// narrow keeps the commands that begin with the tokens, as far as tokens are
// words of commands, and says how far that is.
func narrow(tokens []Token, exact bool) ([]*Command, int, error) {
	list := table
	for depth, token := range tokens {
		if token.Quoted {
			return list, depth, nil
		}
		next := matching(list, depth, token.Text, exact)
		if len(next) == 0 {
			return list, depth, nil
		}
		if names := wordsAt(next, depth); len(names) > 1 {
			// A command that ends here may take the word for its argument.
			if endsAt(list, depth) != nil {
				return list, depth, nil
			}
			return nil, 0, refusal(mgmt.CodeInvalidCommand, "%s is ambiguous, it may be %s",
				pathOf(tokens[:depth+1]), oneOf(names))
		}
		list = next
	}
	return list, len(tokens), nil
}

// matching keeps the commands whose word at a depth is the typed one, or, where
// none is, begins with it.
func matching(list []*Command, depth int, typed string, exact bool) []*Command {
	var same, begun []*Command
	for _, c := range list {
		words := strings.Fields(c.Words)
		switch {
		case depth >= len(words):
		case words[depth] == typed:
			same = append(same, c)
		case !exact && typed != "" && strings.HasPrefix(words[depth], typed):
			begun = append(begun, c)
		}
	}
	if len(same) > 0 {
		return same
	}
	return begun
}

// endsAt returns the command whose last word is before depth, nil for none.
func endsAt(list []*Command, depth int) *Command {
	for _, c := range list {
		if len(strings.Fields(c.Words)) == depth {
			return c
		}
	}
	return nil
}

// wordsAt lists the different words that the commands have at a depth.
func wordsAt(list []*Command, depth int) []string {
	var names []string
	for _, c := range list {
		if words := strings.Fields(c.Words); depth < len(words) && !slices.Contains(names, words[depth]) {
			names = append(names, words[depth])
		}
	}
	return names
}

// parser reads arguments.
type parser struct {
	call  *Call
	group string // the word of the group that was opened last
	exact bool
}

// next takes one argument, or the word that opens a group, off the front.
func (p *parser) next(tokens []Token) ([]Token, error) {
	token := tokens[0]
	if !token.Quoted {
		a, group, err := p.keyword(token.Text)
		switch {
		case err != nil:
			return nil, err
		case group != "":
			p.group = group
			if len(tokens) == 1 {
				return nil, refusal(mgmt.CodeInvalidCommand, "%s is not complete, expected %s",
					p.path(group), oneOf(p.names()))
			}
			return tokens[1:], nil
		case a != nil:
			return p.value(a, tokens[1:])
		}
	}
	for i := range p.call.Command.Args {
		if a := &p.call.Command.Args[i]; a.Bare && !p.call.Has(a.Name) {
			return p.value(a, tokens)
		}
	}
	return nil, unexpected([]Token{{Text: p.path("")}}, token, p.names())
}

// keyword finds the argument or group that a word names: first within the open
// group, then outside of all.
func (p *parser) keyword(word string) (*Arg, string, error) {
	var begun []string
	var found *Arg
	group := ""
	args := p.call.Command.Args
	for i := range args {
		a := &args[i]
		if a.Bare || a.Within != "" && a.Within != p.group {
			continue
		}
		switch {
		case a.Name == word:
			return a, "", nil
		case !p.exact && strings.HasPrefix(a.Name, word) && word != "":
			begun, found = append(begun, a.Name), a
		}
	}
	for _, name := range groups(p.call.Command) {
		switch {
		case name == word:
			return nil, name, nil
		case !p.exact && strings.HasPrefix(name, word) && word != "":
			begun, group = append(begun, name), name
		}
	}
	switch {
	case len(begun) > 1:
		return nil, "", refusal(mgmt.CodeInvalidCommand, "%s -> %s is ambiguous, it may be %s", p.path(""), word, oneOf(begun))
	case group != "":
		return nil, group, nil
	}
	return found, "", nil
}

func groups(c *Command) []string {
	var names []string
	for _, a := range c.Args {
		if a.Within != "" && !slices.Contains(names, a.Within) {
			names = append(names, a.Within)
		}
	}
	return names
}

// names are the words that may stand next.
func (p *parser) names() []string {
	var names []string
	for _, a := range p.call.Command.Args {
		switch {
		case p.call.Has(a.Name), a.Within != "" && a.Within != p.group:
		case a.Bare:
			names = append(names, a.placeholder())
		default:
			names = append(names, a.Name)
		}
	}
	for _, g := range groups(p.call.Command) {
		if g != p.group {
			names = append(names, g)
		}
	}
	return names
}

func (p *parser) path(last string) string {
	path := strings.Join(strings.Fields(p.call.Command.Words), " -> ")
	if last != "" {
		path += " -> " + last
	}
	return path
}

// value takes an argument's value off the front.
func (p *parser) value(a *Arg, tokens []Token) ([]Token, error) {
	if p.call.Has(a.Name) {
		return nil, refusal(mgmt.CodeInvalidCommand, "%s is given twice", joined(p.call.Command, *a))
	}
	if a.Kind == Flag {
		p.call.values[a.Name] = nil
		return tokens, nil
	}
	if a.Equal && len(tokens) > 0 && tokens[0].is("equal") {
		tokens = tokens[1:]
	}
	if len(tokens) == 0 && a.Kind == Secret && a.Prompt != "" {
		p.call.named[a.Name] = true
		return nil, nil
	}
	if len(tokens) == 0 {
		return nil, refusal(mgmt.CodeInvalidCommand, "%s needs a value: %s", joined(p.call.Command, *a), a.expected())
	}
	values, rest, err := take(tokens)
	if err != nil {
		return nil, refusal(mgmt.CodeInvalidCommand, "%s: %s", joined(p.call.Command, *a), err)
	}
	if a.Kind != List && len(values) != 1 {
		return nil, refusal(mgmt.CodeInvalidCommand, "%s takes one value, got %d", joined(p.call.Command, *a), len(values))
	}
	if p.exact && !tokens[0].Quoted && a.Kind != Choice && a.Kind != List {
		return nil, refusal(mgmt.CodeInvalidCommand, "%s -> %s is unexpected, expected a value: %s",
			joined(p.call.Command, *a), tokens[0].Text, a.expected())
	}
	for i, v := range values {
		if a.Kind == Choice && !p.exact {
			v = a.completed(v)
			values[i] = v
		}
		if err := a.check(v); err != nil {
			err.Lines[0] = joined(p.call.Command, *a) + ": " + err.Lines[0]
			return nil, err
		}
	}
	p.call.values[a.Name] = values
	return rest, nil
}

// take takes one value, or a list in brackets, off the front.
func take(tokens []Token) ([]string, []Token, error) {
	if !tokens[0].is("[") {
		return []string{tokens[0].Text}, tokens[1:], nil
	}
	var values []string
	for i, t := range tokens[1:] {
		if t.is("]") {
			if len(values) == 0 {
				return nil, nil, errEmptyList
			}
			return values, tokens[i+2:], nil
		}
		values = append(values, t.Text)
	}
	return nil, nil, errOpenList
}

type parseError string

func (e parseError) Error() string { return string(e) }

const (
	errEmptyList = parseError("the list is empty, expected [ a b ]")
	errOpenList  = parseError("the list does not end, expected ] after it")
)

// completed is the choice that a word is the unique beginning of, or the word.
func (a *Arg) completed(word string) string {
	found := word
	count := 0
	for _, o := range a.Choices {
		if o.Word == word {
			return word
		}
		if word != "" && strings.HasPrefix(o.Word, word) {
			found, count = o.Word, count+1
		}
	}
	if count == 1 {
		return found
	}
	return word
}

// check refuses what is no value of the argument. The value of a secret is not
// repeated.
func (a *Arg) check(value string) *mgmt.Error {
	wrong := func() *mgmt.Error {
		return refusal(mgmt.CodeInvalidCommand, "got %s, expected %s", shown(value), a.expected())
	}
	switch a.Kind {
	case Number:
		n, err := strconv.Atoi(value)
		if err != nil || n < a.Min || a.Max > 0 && n > a.Max {
			return wrong()
		}
	case Choice:
		if !slices.ContainsFunc(a.Choices, func(o Option) bool { return o.Word == value }) {
			return wrong()
		}
	case Address:
		if _, err := netip.ParseAddr(value); err != nil {
			if _, err := netip.ParsePrefix(value); err != nil {
				return wrong()
			}
		}
	case Secret:
		if value == "" {
			return refusal(mgmt.CodeInvalidCommand, "the value is empty, expected %s", a.expected())
		}
		if len(value) > maxValue || !utf8.ValidString(value) {
			return refusal(mgmt.CodeInvalidCommand, "the value is longer than %d bytes or no UTF-8", maxValue)
		}
	default:
		if value == "" || len(value) > maxValue || !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) {
			return wrong()
		}
	}
	return nil
}

// expected says in words what a value is.
func (a *Arg) expected() string {
	switch a.Kind {
	case Number:
		if a.Max > 0 {
			return "a number from " + strconv.Itoa(a.Min) + " to " + strconv.Itoa(a.Max)
		}
		return "a number from " + strconv.Itoa(a.Min)
	case Choice:
		words := make([]string, len(a.Choices))
		for i, o := range a.Choices {
			words[i] = o.Word
		}
		return oneOf(words)
	case Address:
		return "an IP address or prefix"
	default:
		return a.placeholder()
	}
}

// placeholder stands for a value in help and completion.
func (a *Arg) placeholder() string {
	if a.Value != "" {
		return "<" + a.Value + ">"
	}
	return "<" + a.Name + ">"
}

// unexpected is the refusal of a word, with those that would have done.
func unexpected(before []Token, token Token, instead []string) *mgmt.Error {
	path := pathOf(before)
	if path != "" {
		path += " -> "
	}
	word := token.Text
	if token.Quoted {
		word = "a value" // it may be a secret in the wrong place
	} else if len(word) > 64 {
		word = "a word of more than 64 bytes"
	}
	if len(instead) == 0 {
		return refusal(mgmt.CodeInvalidCommand, "%s%s is unexpected, expected nothing more", path, word)
	}
	return refusal(mgmt.CodeInvalidCommand, "%s%s is unexpected, expected %s", path, word, oneOf(instead))
}

func pathOf(tokens []Token) string {
	words := make([]string, len(tokens))
	for i, t := range tokens {
		words[i] = t.Text
	}
	return strings.Join(words, " -> ")
}

// oneOf writes names as a choice: a, b or c.
func oneOf(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}

// shown quotes a wrong value for an error text.
func shown(s string) string {
	const most = 64
	if len(s) <= most {
		return strconv.Quote(s)
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strconv.Quote(s[:cut]) + "…"
}
