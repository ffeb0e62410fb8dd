package cli

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode"

	"moongate/internal/gw/config"
	"moongate/internal/gw/mgmt"
	"moongate/internal/shell"
)

// completeWithin bounds how long a Tab may take.
const completeWithin = 2 * time.Second

// Complete implements shell.Interpreter.
func (s *session) Complete(text string) []shell.Candidate {
	ctx, cancel := context.WithTimeout(context.Background(), completeWithin)
	defer cancel()
	start := strings.LastIndexFunc(text, unicode.IsSpace) + 1
	words, err := split(text[:start])
	if err != nil {
		return nil // within quotation marks
	}
	last := strings.TrimPrefix(text[start:], `"`)
	return matching(s.candidates(ctx, words, last), last)
}

// matching keeps the candidates that a word may grow to.
func matching(all []shell.Candidate, last string) []shell.Candidate {
	return slices.DeleteFunc(all, func(c shell.Candidate) bool {
		return !isPlaceholder(c.Word) && !strings.HasPrefix(strings.ToLower(c.Word), strings.ToLower(last))
	})
}

func isPlaceholder(w string) bool { return strings.HasPrefix(w, "<") && strings.HasSuffix(w, ">") }

func (s *session) candidates(ctx context.Context, words []word, last string) []shell.Candidate {
	for i := len(words) - 1; i >= 0; i-- {
		if is(words[i], "|") {
			return afterBar(words[i+1:])
		}
	}
	if isSetting(words) {
		return settingCandidates(words[2:])
	}
	if !s.configuring {
		list := s.operational(ctx, words, last)
		if len(words) == 0 {
			list = append(list, shell.Candidate{Word: "configure", Help: "change the configuration"},
				shell.Candidate{Word: "exit", Help: "end the session"}, shell.Candidate{Word: "quit", Help: "end the session"})
		}
		if len(words) == 1 && is(words[0], "set") {
			list = append(list, shell.Candidate{Word: "cli", Help: "how this session shows things"})
		}
		return sorted(list)
	}
	if len(words) == 0 {
		var list []shell.Candidate
		for _, c := range commands() {
			list = append(list, shell.Candidate{Word: c.name, Help: c.help})
		}
		return list
	}
	return s.arguments(ctx, words[0].Text, words[1:], last)
}

// sorted orders candidates by word, each once.
func sorted(list []shell.Candidate) []shell.Candidate {
	slices.SortStableFunc(list, func(a, b shell.Candidate) int { return strings.Compare(a.Word, b.Word) })
	return slices.CompactFunc(list, func(a, b shell.Candidate) bool { return a.Word == b.Word })
}

func afterBar(words []word) []shell.Candidate {
	var list []shell.Candidate
	switch {
	case len(words) == 0:
		for _, f := range filterHelp {
			list = append(list, shell.Candidate{Word: f.name, Help: f.help})
		}
	case len(words) == 1 && (is(words[0], "match") || is(words[0], "except")):
		list = append(list, shell.Candidate{Word: "<expression>", Help: "a regular expression; upper and lower case are one"})
	}
	return list
}

func settingCandidates(words []word) []shell.Candidate {
	var list []shell.Candidate
	for _, known := range settings {
		switch {
		case len(words) == 0:
			list = append(list, shell.Candidate{Word: known.name, Help: known.help})
		case len(words) == 1 && is(words[0], known.name):
			for _, w := range known.words {
				list = append(list, shell.Candidate{Word: w})
			}
		}
	}
	return list
}

// choose makes candidates of "word", "help" pairs.
func choose(pairs ...string) []shell.Candidate {
	var list []shell.Candidate
	for i := 0; i+1 < len(pairs); i += 2 {
		list = append(list, shell.Candidate{Word: pairs[i], Help: pairs[i+1]})
	}
	return list
}

// arguments are what may follow a command of the configuration mode.
func (s *session) arguments(ctx context.Context, name string, words []word, last string) []shell.Candidate {
	switch name {
	case "set":
		return s.settable(ctx, words)
	case "delete", "edit", "show":
		return s.reachable(ctx, words)
	case "rename", "copy", "move":
		return s.entryArguments(ctx, name, words)
	case "run":
		return s.operational(ctx, words, last)
	case "commit":
		switch {
		case len(words) == 0:
			return choose("confirm", "keep a commit that waits to be confirmed", "confirmed", "go back by itself unless it is confirmed",
				"description", "a word on why", "<Enter>", "commit the candidate")
		case len(words) == 1 && is(words[0], "confirmed"):
			return choose("<minutes>", "1 to 10080")
		case len(words) == 1 && is(words[0], "description"), len(words) == 3 && is(words[2], "description"):
			return choose("<text>", "within quotation marks where it has spaces")
		case len(words) == 2 && is(words[0], "confirmed"):
			return choose("description", "a word on why", "<Enter>", "commit the candidate")
		}
	case "validate", "revert", "load":
		return s.operational(ctx, append([]word{{Text: name}}, words...), last)
	case "find":
		switch len(words) {
		case 0:
			return choose("command", "")
		case 1:
			return choose("keyword", "")
		case 2:
			return choose("<text>", "part of a name or of its help")
		}
	}
	return nil
}

func (s *session) entryArguments(ctx context.Context, name string, words []word) []shell.Candidate {
	keywords := []string{"to", "the new name follows"}
	if name == "move" {
		keywords = []string{"after", "another entry", "before", "another entry", "bottom", "the last place", "top", "the first place"}
	}
	p, rest, err := s.at.walk(words)
	switch {
	case err != nil:
		// The keyword and perhaps a name: names of the same list.
		if n := len(words); n >= 2 && !words[n-1].Quoted && slices.Contains([]string{"before", "after", "to"}, words[n-1].Text) {
			if name != "move" {
				return choose("<name>", "the new name")
			}
			return s.reachable(ctx, words[:n-2])
		}
		return nil
	case len(rest) == 0 && !p.top() && p.row.Kind() == config.KindEntry:
		return append(choose(keywords...), s.reachable(ctx, words)...)
	}
	return s.reachable(ctx, words)
}

// reachable are the elements at which words may go on: children and entries
// that there are.
func (s *session) reachable(ctx context.Context, words []word) []shell.Candidate {
	p, rest, err := s.at.walk(words)
	if err != nil || len(rest) > 0 {
		return nil
	}
	switch {
	case p.isList():
		return s.entryNames(ctx, p)
	case !p.top() && p.row.Kind() == config.KindMembers:
		return s.memberValues(ctx, p)
	}
	return rowCandidates(p.children())
}

func rowCandidates(rows []config.Row) []shell.Candidate {
	var list []shell.Candidate
	for _, row := range rows {
		list = append(list, shell.Candidate{Word: row.Name(), Help: row.Help()})
	}
	return sorted(list)
}

// settable are what may follow `set`: as reachable, with names to choose freely
// and values.
func (s *session) settable(ctx context.Context, words []word) []shell.Candidate {
	if len(words) == 0 && s.at.top() {
		return append(rowCandidates(place{}.children()), choose("cli", "how this session shows things")...)
	}
	p, open, wants := s.parsed(words)
	switch {
	case wants == aName:
		list := append(s.entryNames(ctx, p), shell.Candidate{Word: "<name>", Help: p.row.Doc()})
		return list
	case wants == aValue:
		return s.values(ctx, p)
	}
	var rows []config.Row
	for i := len(open) - 1; i >= 0; i-- {
		rows = append(rows, open[i].children()...)
		if i < len(open)-1 && len(open[i].words) <= 1 {
			break // far above: nobody means that
		}
	}
	list := rowCandidates(rows)
	if len(open) > 0 && isUser(open[len(open)-1]) {
		list = append(list, choose("password", "asked for; the configuration keeps its hash")...)
	}
	return list
}

// isUser reports the place of an administrator's account.
func isUser(p place) bool {
	return len(p.words) == 3 && p.words[0] == "mgt-config" && p.words[1] == "users"
}

// want is what the words of a set command need next.
type want int

const (
	anElement want = iota
	aName
	aValue
)

// parsed follows the words of a set command: the open places, and the one that
// needs a name or a value.
func (s *session) parsed(words []word) (p place, open []place, wants want) {
	open = []place{s.at}
	for len(words) > 0 {
		depth := len(open) - 1
		var next place
		ok := false
		for ; depth >= 0 && !ok; depth-- {
			next, ok = open[depth].below(words[0].Text)
		}
		if !ok {
			return place{}, nil, anElement
		}
		open, words = open[:depth+2], words[1:]
		switch {
		case next.isList():
			if len(words) == 0 {
				return next, open, aName
			}
			if next, ok = next.below(words[0].Text); !ok {
				return place{}, nil, anElement
			}
			open, words = append(open, next), words[1:]
		case next.row.Kind() == config.KindLeaf:
			if len(words) == 0 {
				return next, open, aValue
			}
			words = words[1:]
		case next.row.Kind() == config.KindMembers:
			_, rest, err := valueList(words)
			if err != nil {
				return next, open, aValue
			}
			words = rest
		default:
			open = append(open, next)
		}
	}
	return place{}, open, anElement
}

// values are what a leaf or a member may hold.
func (s *session) values(ctx context.Context, p place) []shell.Candidate {
	var list []shell.Candidate
	for _, w := range p.row.Words() {
		list = append(list, shell.Candidate{Word: w})
	}
	for _, refers := range p.row.Refers() {
		for _, n := range s.names(ctx, refers) {
			list = append(list, shell.Candidate{Word: n})
		}
	}
	if len(list) == 0 || len(p.row.Words()) == 0 {
		list = append(list, shell.Candidate{Word: "<value>", Help: p.row.Doc()})
	}
	return list
}

func (s *session) entryNames(ctx context.Context, p place) []shell.Candidate {
	var list []shell.Candidate
	for _, n := range s.names(ctx, p.path) {
		list = append(list, shell.Candidate{Word: n})
	}
	return list
}

// names are those of a list's entries in the candidate; none where the caller
// may not see them.
func (s *session) names(ctx context.Context, list string) []string {
	nodes, err := s.opts.Manager.Get(ctx, s.caller, mgmt.Candidate, list+"/entry/@name")
	if err != nil {
		return nil
	}
	var names []string
	for _, n := range nodes {
		names = append(names, n.Entry)
	}
	return names
}

func (s *session) memberValues(ctx context.Context, p place) []shell.Candidate {
	nodes, err := s.opts.Manager.Get(ctx, s.caller, mgmt.Candidate, p.path+"/member")
	if err != nil {
		return nil
	}
	var list []shell.Candidate
	for _, n := range nodes {
		list = append(list, shell.Candidate{Word: n.Text})
	}
	return list
}
