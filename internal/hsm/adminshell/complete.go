package adminshell

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/users"
	"moongate/internal/shell"
)

// complete returns how the line may go on: words of commands, then options and
// the values that are known.
func (s *Shell) complete(line string) []shell.Candidate {
	words, partial, ok := unfinished(line)
	if !ok {
		return nil
	}
	if len(words) > 0 && isOneOf(words[0], "help", "?") {
		words = words[1:]
		return s.completeWord(words, partial)
	}
	if cmd, rest, err := find(s.commands, words); err == nil {
		return cmd.complete(s, rest, partial)
	}
	return s.completeWord(words, partial)
}

// unfinished splits a line into its whole words and the beginning of the last
// one; ok is false where a quotation mark is not closed.
func unfinished(line string) (words []string, partial string, ok bool) {
	words, err := Words(line)
	if err != nil {
		return nil, "", false
	}
	if last, _ := utf8.DecodeLastRuneInString(line); line == "" || unicode.IsSpace(last) {
		return words, "", true
	}
	return words[:len(words)-1], words[len(words)-1], true
}

func (s *Shell) completeWord(words []string, partial string) []shell.Candidate {
	list, known := beginning(s.commands, words)
	if !known {
		return nil
	}
	depth := len(words)
	candidates := make([]*command, len(list))
	for i := range list {
		candidates[i] = &list[i]
	}
	var found []shell.Candidate
	for _, word := range wordsAt(candidates, depth) {
		if !hasPrefix(word, partial) {
			continue
		}
		same := narrow(candidates, depth, word)
		help := same[0].summary()
		if len(strings.Fields(same[0].words)) > depth+1 {
			help = strings.Join(wordsAt(same, depth+1), ", ")
		}
		found = append(found, shell.Candidate{Word: word, Help: help})
	}
	if depth == 0 {
		for _, c := range builtins {
			if hasPrefix(c.words, partial) {
				found = append(found, shell.Candidate{Word: c.words, Help: c.summary()})
			}
		}
	}
	return found
}

// complete returns how the options of a command may go on.
func (c *command) complete(s *Shell, rest []string, partial string) []shell.Candidate {
	a := args{values: map[string]string{}}
	for len(rest) > 0 {
		o, value, after, err := c.next(a, rest)
		if err != nil {
			// A last option that waits for its value.
			if o, _ := c.option(rest[0]); o != nil && len(rest) == 1 && o.value != "" && !a.has(o.name) {
				return o.known(s, a, partial)
			}
			return nil
		}
		a.values[o.name], rest = value, after
	}
	var found []shell.Candidate
	operand := false
	for i := range c.options {
		o := &c.options[i]
		if a.has(o.name) {
			continue
		}
		if o.operand && !operand {
			operand = true
			found = append(found, o.known(s, a, partial)...)
		}
		if word := "-" + o.name; hasPrefix(word, partial) && (!o.operand || partial != "") {
			found = append(found, shell.Candidate{Word: word, Help: o.help})
		}
	}
	return found
}

// known returns the option's known values that begin with partial. Where none
// is known, a placeholder says what is expected.
func (o *option) known(s *Shell, a args, partial string) []shell.Candidate {
	if o.values == nil {
		if partial != "" {
			return nil
		}
		return []shell.Candidate{{Word: "<" + o.value + ">", Help: o.help}}
	}
	return slices.DeleteFunc(o.values(s, a), func(v shell.Candidate) bool { return !hasPrefix(v.Word, partial) })
}

func hasPrefix(word, typed string) bool {
	return len(word) >= len(typed) && strings.EqualFold(word[:len(typed)], typed)
}

// choices makes the values of an option that has few: words and their help in
// turn.
func choices(pairs ...string) func(*Shell, args) []shell.Candidate {
	var list []shell.Candidate
	for pair := range slices.Chunk(pairs, 2) {
		list = append(list, shell.Candidate{Word: pair[0], Help: pair[1]})
	}
	return func(*Shell, args) []shell.Candidate { return slices.Clone(list) }
}

func clientNames(s *Shell, _ args) []shell.Candidate {
	var list []shell.Candidate
	for _, c := range s.appliance.HSM.Clients() {
		list = append(list, shell.Candidate{Word: c.Name, Help: c.Address + c.Hostname})
	}
	return list
}

func partitionLabels(s *Shell, _ args) []shell.Candidate {
	partitions, err := s.appliance.HSM.Partitions()
	if err != nil {
		return nil // the command itself will say why
	}
	var list []shell.Candidate
	for _, p := range partitions {
		list = append(list, shell.Candidate{Word: p.Label, Help: "serial number " + p.Serial})
	}
	return list
}

func policyNames(*Shell, args) []shell.Candidate {
	var list []shell.Candidate
	for _, p := range object.Policies() {
		list = append(list, shell.Candidate{Word: p.Name, Help: p.Help})
	}
	return list
}

func userNames(s *Shell, _ args) []shell.Candidate {
	if s.appliance.Users == nil {
		return nil
	}
	var list []shell.Candidate
	for _, u := range s.appliance.Users.List() {
		list = append(list, shell.Candidate{Word: u.Name, Help: string(u.Role)})
	}
	return list
}

func userRoles(*Shell, args) []shell.Candidate {
	var list []shell.Candidate
	for _, r := range users.Roles() {
		list = append(list, shell.Candidate{Word: string(r)})
	}
	return list
}
