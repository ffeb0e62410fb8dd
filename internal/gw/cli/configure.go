package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"moongate/internal/gw/config"
	"moongate/internal/gw/jobs"
	"moongate/internal/gw/mgmt"
	"moongate/internal/shell"
)

// command is one of the configuration mode.
type command struct {
	name, usage, help string
	run               func(s *session, ctx context.Context, l line, args []word, term shell.Terminal) error
}

// commands are those of the configuration mode, by name.
func commands() []command {
	return []command{
		{"commit", "[force] [description TEXT] | confirmed MINUTES [description TEXT] | confirm", "make the candidate the running configuration", (*session).commit},
		{"copy", "PATH to NAME", "copy an entry within its list", (*session).copyEntry},
		{"delete", "PATH [VALUE]", "take an element out of the candidate", (*session).delete},
		{"edit", "PATH", "go to an element: paths begin there", (*session).edit},
		{"exit", "", "go one level up, or leave the configuration mode", (*session).exit},
		{"find", "command keyword TEXT", "the paths whose name or help holds a text", (*session).find},
		{"load", "config version N", "make an earlier version the candidate", (*session).inBoth},
		{"move", "PATH before|after NAME | top | bottom", "change an entry's place in its list", (*session).move},
		{"quit", "", "the same as exit", (*session).exit},
		{"rename", "PATH to NAME", "give an entry another name, also where it is referred to", (*session).rename},
		{"revert", "config", "make the running configuration the candidate", (*session).inBoth},
		{"run", "COMMAND", "run a command of the operational mode", (*session).runOperational},
		{"set", "PATH VALUE...", "set an element of the candidate", (*session).set},
		{"show", "[PATH]", "show the candidate", (*session).show},
		{"top", "", "go to the top", (*session).goTop},
		{"up", "", "go one level up", (*session).up},
		{"validate", "full", "check the whole candidate without committing it", (*session).inBoth},
	}
}

func commandNames() []string {
	var names []string
	for _, c := range commands() {
		names = append(names, c.name)
	}
	return names
}

// configure runs a line in the configuration mode. A command's name may be
// shortened while it is the only one.
func (s *session) configure(ctx context.Context, l line, term shell.Terminal) error {
	name := l.words[0].Text
	var found []command
	for _, c := range commands() {
		if c.name == name {
			found = []command{c}
			break
		}
		if strings.HasPrefix(c.name, name) {
			found = append(found, c)
		}
	}
	switch len(found) {
	case 1:
		if len(l.pipes) > 0 && !slices.Contains([]string{"show", "run", "find"}, found[0].name) {
			return fmt.Errorf("%s prints nothing that a filter could take", found[0].name)
		}
		return found[0].run(s, ctx, l, l.words[1:], term)
	case 0:
		if near := config.Nearest(name, commandNames()); near != "" {
			return fmt.Errorf("unknown command, got %q, did you mean %q?", name, near)
		}
		return fmt.Errorf("unknown command, got %q, expected one of %s; `run` before it for a command of the operational mode", name, strings.Join(commandNames(), ", "))
	}
	var names []string
	for _, c := range found {
		names = append(names, c.name)
	}
	return fmt.Errorf("%q is short for %s", name, strings.Join(names, " and "))
}

// usageOf is the error of a command whose words are off.
func usageOf(name string) error {
	for _, c := range commands() {
		if c.name == name {
			return fmt.Errorf("usage: %s", strings.TrimSpace(c.name+" "+c.usage))
		}
	}
	return fmt.Errorf("usage: %s", name)
}

func (s *session) set(ctx context.Context, _ line, args []word, term shell.Terminal) error {
	if name, ok := s.passwordOf(args); ok {
		return s.setPassword(ctx, name, term)
	}
	e, err := setEdit(s.at, args)
	if err != nil {
		return err
	}
	return s.opts.Manager.Change(ctx, s.caller, e)
}

// passwordOf recognises `set mgmt-config users NAME password`, which is asked
// for: what the configuration keeps is its hash.
func (s *session) passwordOf(args []word) (name string, ok bool) {
	words := append(append([]string{}, s.at.words...), texts(args)...)
	if len(words) == 4 && words[0] == "mgt-config" && words[1] == "users" && words[3] == "password" {
		return words[2], true
	}
	return "", false
}

func (s *session) setPassword(ctx context.Context, name string, term shell.Terminal) error {
	password, err := askTwice(term, "Enter password   : ", "Confirm password : ")
	if err != nil {
		return err
	}
	return s.opts.Manager.SetPassword(ctx, s.caller, name, []byte(password))
}

// askTwice asks for a new secret and for it again.
func askTwice(term shell.Terminal, first, second string) (string, error) {
	secret, err := term.Ask(first, true)
	if err != nil {
		return "", err
	}
	again, err := term.Ask(second, true)
	if err != nil {
		return "", err
	}
	if secret != again {
		return "", errors.New("the two are not the same; nothing was changed")
	}
	return secret, nil
}

func (s *session) delete(ctx context.Context, _ line, args []word, _ shell.Terminal) error {
	if len(args) == 0 {
		return usageOf("delete")
	}
	p, rest, err := s.at.walk(args)
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		return s.opts.Manager.Change(ctx, s.caller, config.Edit{Op: config.OpDelete, Path: p.path})
	}
	if p.row.Kind() != config.KindMembers {
		return fmt.Errorf("%s has one value: delete it without %q", strings.Join(quoteAll(p.words), " "), rest[0].Text)
	}
	values, more, err := valueList(rest)
	if err != nil {
		return err
	}
	if len(more) > 0 {
		return usageOf("delete")
	}
	var edits []config.Edit
	for _, v := range values {
		step, err := memberStep(v)
		if err != nil {
			return err
		}
		edits = append(edits, config.Edit{Op: config.OpDelete, Path: p.path + "/" + step})
	}
	return s.opts.Manager.Change(ctx, s.caller, edits...)
}

// entryAnd reads "PATH to NAME" and the like: the path of an entry, the
// keyword, and what follows it.
func (s *session) entryAnd(name string, args []word, keywords ...string) (place, []string, error) {
	at := slices.IndexFunc(args, func(w word) bool { return !w.Quoted && slices.Contains(keywords, w.Text) })
	if at < 1 {
		return place{}, nil, usageOf(name)
	}
	p, rest, err := s.at.walk(args[:at])
	switch {
	case err != nil:
		return place{}, nil, err
	case len(rest) > 0 || p.row.Kind() != config.KindEntry:
		return place{}, nil, fmt.Errorf("%s takes an entry of a list, got %s", name, strings.Join(quoteAll(texts(args[:at])), " "))
	}
	return p, texts(args[at:]), nil
}

func (s *session) rename(ctx context.Context, _ line, args []word, _ shell.Terminal) error {
	return s.named(ctx, "rename", config.OpRename, args)
}

func (s *session) copyEntry(ctx context.Context, _ line, args []word, _ shell.Terminal) error {
	return s.named(ctx, "copy", config.OpClone, args)
}

func (s *session) named(ctx context.Context, name string, op config.Op, args []word) error {
	p, words, err := s.entryAnd(name, args, "to")
	if err != nil {
		return err
	}
	if len(words) != 2 {
		return usageOf(name)
	}
	return s.opts.Manager.Change(ctx, s.caller, config.Edit{Op: op, Path: p.path, NewName: words[1]})
}

func (s *session) move(ctx context.Context, _ line, args []word, _ shell.Terminal) error {
	p, words, err := s.entryAnd("move", args, "before", "after", "top", "bottom")
	if err != nil {
		return err
	}
	e := config.Edit{Op: config.OpMove, Path: p.path, Where: words[0]}
	switch wants := words[0] == "before" || words[0] == "after"; {
	case wants && len(words) == 2:
		e.Dst = words[1]
	case wants || len(words) != 1:
		return usageOf("move")
	}
	return s.opts.Manager.Change(ctx, s.caller, e)
}

func (s *session) edit(_ context.Context, _ line, args []word, _ shell.Terminal) error {
	if len(args) == 0 {
		return usageOf("edit")
	}
	p, rest, err := s.at.walk(args)
	switch {
	case err != nil:
		return err
	case len(rest) > 0 || p.row.Kind() == config.KindLeaf || p.row.Kind() == config.KindMembers:
		return fmt.Errorf("edit goes to an element that holds others, got %s", strings.Join(quoteAll(texts(args)), " "))
	}
	s.at = p
	return nil
}

func (s *session) exit(_ context.Context, _ line, args []word, term shell.Terminal) error {
	if !s.at.top() && len(args) == 0 {
		return s.goUp()
	}
	s.configuring, s.at = false, place{}
	fmt.Fprintln(term, "Exiting configuration mode")
	return nil
}

func (s *session) up(context.Context, line, []word, shell.Terminal) error { return s.goUp() }

func (s *session) goUp() error {
	words := s.at.words
	if len(words) == 0 {
		return nil
	}
	s.at = place{}
	for _, w := range words[:len(words)-1] {
		s.at, _ = s.at.below(w) // each was a place before
	}
	if s.at.isList() { // an entry's list is no level of its own
		return s.goUp()
	}
	return nil
}

func (s *session) goTop(context.Context, line, []word, shell.Terminal) error {
	s.at = place{}
	return nil
}

func (s *session) show(ctx context.Context, l line, args []word, term shell.Terminal) error {
	text, err := s.showing(ctx, mgmt.Candidate, args, formatOf(l.pipes, s.out))
	if err != nil {
		return err
	}
	return s.print(term, l, text)
}

// showing writes what a configuration has at a path.
func (s *session) showing(ctx context.Context, which mgmt.Which, args []word, as format) (string, error) {
	p, rest, err := s.at.walk(args)
	if err != nil {
		return "", err
	}
	if len(rest) > 0 {
		return "", fmt.Errorf("%s has no element in it, got %q", strings.Join(quoteAll(p.words), " "), rest[0].Text)
	}
	path := p.path
	if p.top() {
		path = "/config"
	}
	nodes, err := s.opts.Manager.Get(ctx, s.caller, which, path)
	if err != nil {
		return "", err
	}
	prefix := p.words
	if len(prefix) > 0 {
		prefix = prefix[:len(prefix)-1]
	}
	if p.top() {
		return showTop(nodes, as), nil
	}
	if as != asXML && (as == braces || as == asJSON) && len(nodes) == 1 && len(nodes[0].Children) > 0 && members(nodes[0]) == nil {
		nodes = nodes[0].Children // its own name is what was asked for
	}
	return as.show(nodes, prefix), nil
}

// showTop writes a whole configuration; in words, without the levels that the
// command line leaves out.
func showTop(nodes []*config.Node, as format) string {
	if as == asXML || as == asJSON {
		return as.show(nodes, nil)
	}
	var flat []*config.Node
	var flatten func(n *config.Node)
	flatten = func(n *config.Node) {
		for _, c := range n.Children {
			switch c.Name {
			case "devices", "vsys":
				for _, e := range c.Children {
					flatten(e)
				}
			default:
				flat = append(flat, c)
			}
		}
	}
	for _, n := range nodes {
		flatten(n)
	}
	return as.show(flat, nil)
}

func (s *session) runOperational(ctx context.Context, l line, args []word, term shell.Terminal) error {
	if len(args) == 0 {
		return usageOf("run")
	}
	l.words = args
	return s.operate(ctx, l, term)
}

// inBoth runs a command that both modes have.
func (s *session) inBoth(ctx context.Context, l line, _ []word, term shell.Terminal) error {
	return s.operate(ctx, l, term)
}

// maxConfirm bounds commit confirmed, in minutes.
const maxConfirm = 7 * 24 * 60

func (s *session) commit(ctx context.Context, _ line, args []word, term shell.Terminal) error {
	var req mgmt.CommitRequest
	words := texts(args)
	if len(words) == 1 && words[0] == "confirm" {
		if err := s.opts.Manager.ConfirmCommit(ctx, s.caller); err != nil {
			return err
		}
		fmt.Fprintln(term, "The commit is confirmed")
		return nil
	}
	if len(words) >= 2 && words[0] == "confirmed" {
		minutes, err := strconv.Atoi(words[1])
		if err != nil || minutes < 1 || minutes > maxConfirm {
			return fmt.Errorf("commit confirmed: got %q, expected minutes from 1 to %d", words[1], maxConfirm)
		}
		req.Confirm = time.Duration(minutes) * time.Minute
		words = words[2:]
	}
	if len(words) > 0 && words[0] == "force" {
		req.Force, words = true, words[1:]
	}
	if len(words) > 0 && words[0] == "partial" {
		return errors.New("commit partial is not supported: a commit takes the whole candidate")
	}
	if len(words) == 2 && words[0] == "description" {
		req.Description, words = words[1], nil
	}
	if len(words) > 0 {
		return usageOf("commit")
	}
	id, err := s.opts.Manager.Commit(ctx, s.caller, req)
	if errors.Is(err, mgmt.ErrNoChanges) {
		fmt.Fprintln(term, "There are no changes to commit.")
		return nil
	} else if err != nil {
		return err
	}
	fmt.Fprintf(term, "Commit job %d is in progress. Use Ctrl+C to return to command prompt\n", id)
	if err := s.wait(ctx, id, term, "Configuration committed successfully"); err != nil {
		return err
	}
	if req.Confirm > 0 {
		fmt.Fprintf(term, "It goes back by itself in %d minutes unless `commit confirm` is given\n", int(req.Confirm.Minutes()))
	}
	return nil
}

// wait shows how far a job is, as 55%70%100%, and what came of it.
func (s *session) wait(ctx context.Context, id int, term shell.Terminal, success string) error {
	last, dots := -1, 0
	job, err := s.opts.Manager.WaitJob(ctx, s.caller, id, func(j jobs.Job) {
		if j.Progress == last || j.Progress >= 100 {
			return
		}
		last = j.Progress
		dots++
		fmt.Fprintf(term, ".%d%%", j.Progress)
	})
	if err != nil {
		return err
	}
	if job.Result != jobs.Succeeded {
		if dots > 0 {
			fmt.Fprintln(term)
		}
		lines := append([]string{"Job " + strconv.Itoa(id) + " failed"}, job.Details...)
		return &mgmt.Error{Code: mgmt.CodeInvalidObject, Lines: lines}
	}
	fmt.Fprintf(term, ".100%%\n%s\n", success)
	for _, w := range job.Warnings {
		fmt.Fprintln(term, "Warning: "+w)
	}
	return nil
}

// find looks through the schema, for who knows a word and not its place.
func (s *session) find(_ context.Context, l line, args []word, term shell.Terminal) error {
	if len(args) != 3 || args[0].Text != "command" || args[1].Text != "keyword" || args[2].Text == "" {
		return usageOf("find")
	}
	keyword := strings.ToLower(args[2].Text)
	var found []string
	var look func(p place, depth int)
	look = func(p place, depth int) {
		for _, row := range p.children() {
			next := place{words: append(p.words[:len(p.words):len(p.words)], row.Name()), row: row}
			if strings.Contains(row.Name(), keyword) || strings.Contains(strings.ToLower(row.Help()), keyword) {
				found = append(found, "set "+strings.Join(next.words, " ")+placeholderOf(row))
			}
			if row.Kind() == config.KindList {
				next.words = append(next.words, "<name>")
			}
			if depth < 16 {
				look(next, depth+1)
			}
		}
	}
	look(place{}, 0)
	if len(found) == 0 {
		return fmt.Errorf("no path has %q in its name or help", args[2].Text)
	}
	return s.print(term, l, strings.Join(found, "\n")+"\n")
}

func placeholderOf(row config.Row) string {
	switch row.Kind() {
	case config.KindList:
		return " <name>"
	case config.KindLeaf, config.KindMembers:
		if words := row.Words(); len(words) > 0 {
			return " " + strings.Join(words, "|")
		}
		return " <value>"
	}
	return ""
}

// memberStep is the last step of the path of one value in a list.
func memberStep(value string) (string, error) {
	quote := "'"
	if strings.Contains(value, quote) {
		quote = `"`
	}
	if strings.Contains(value, quote) {
		return "", fmt.Errorf("a value with both kinds of quotation mark cannot be named: %q", value)
	}
	return "member[text()=" + quote + value + quote + "]", nil
}
