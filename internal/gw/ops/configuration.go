package ops

import (
	"context"
	"fmt"
	"strconv"

	"moongate/internal/gw/mgmt"
	"moongate/internal/gw/revision"
)

func configurationCommands() []*Command {
	return []*Command{
		{Words: "show config running", Help: "Show the running configuration", Args: []Arg{xpathArg}, run: showConfig(mgmt.Running)},
		{Words: "show config candidate", Help: "Show the candidate configuration", Args: []Arg{xpathArg}, run: showConfig(mgmt.Candidate)},
		{Words: "show config diff", Help: "Show what the candidate would change in the running configuration", Args: []Arg{
			{Name: "from", Kind: Number, Min: 1, Value: "version", Help: "Compare from this version on", known: knownVersions},
			{Name: "to", Kind: Number, Min: 1, Value: "version", Help: "Compare up to this version", known: knownVersions},
		}, run: showDiff},
		{Words: "show config list changes", Help: "List what the candidate would change, one by one", run: listChanges},
		{Words: "show config list change-summary", Help: "Count what the candidate would change", run: changeSummary},
		{Words: "show config list audit-comments", Help: "Show audit comments: there are none",
			Args: []Arg{{Name: "xpath", Help: "The path of a rule"}}, run: noComments},
		{Words: "show config versions", Help: "List the versions that were committed", run: showVersions},
		{Words: "show config version", Help: "Show a version that was committed", Args: []Arg{
			{Name: "version", Bare: true, Required: true, Kind: Number, Min: 1, Help: "The version's number", known: knownVersions}, xpathArg,
		}, run: showVersion},
		{Words: "check pending-changes", Help: "Say whether there is something to commit", run: pendingChanges},
		{Words: "check full-commit-required", Help: "Say whether a commit must be of everything: it always is", run: fullCommit},
		{Words: "validate full", Help: "Check the candidate configuration as a commit would", run: validate},
		{Words: "revert config", Help: "Make the candidate what runs: changes that are not committed are lost",
			Caution: "All changes that are not committed, of all administrators, are lost.", run: revert},
		{Words: "load config version", Help: "Make a version that was committed the candidate", Args: []Arg{
			{Name: "version", Bare: true, Required: true, Kind: Number, Min: 1, Help: "The version's number", known: knownVersions},
		}, run: loadVersion},
		{Words: "load config from", Help: "Make the running configuration, or one in a file, the candidate", Args: []Arg{
			{Name: "file", Bare: true, Required: true, Help: "What to load: " + runningFile + ", or a file that you brought by scp", known: knownConfigurations},
		}, Caution: "All changes that are not committed, of all administrators, are lost.", run: loadFile},
		{Words: "request commit confirm", Help: "Confirm a commit that goes back by itself otherwise", run: confirmCommit},
		{Words: "show commit pending-confirm", Help: "Show the commit that waits to be confirmed", run: pendingConfirm},
		{Words: "show config-locks", Help: "Show who holds the configuration lock",
			Args: []Arg{{Name: "vsys", Help: "Of this virtual system: vsys1, shared or all"}}, run: showLocks("config")},
		{Words: "show commit-locks", Help: "Show who holds the commit lock",
			Args: []Arg{{Name: "vsys", Help: "Of this virtual system: vsys1, shared or all"}}, run: showLocks("commit")},
		{Words: "request config-lock add", Help: "Keep others from changing the candidate", Args: []Arg{commentArg}, run: lock(revision.LockConfig)},
		{Words: "request config-lock remove", Help: "Let others change the candidate again", Args: []Arg{ownerArg}, run: unlock(revision.LockConfig)},
		{Words: "request commit-lock add", Help: "Keep others from committing", Args: []Arg{commentArg}, run: lock(revision.LockCommit)},
		{Words: "request commit-lock remove", Help: "Let others commit again", Args: []Arg{ownerArg}, run: unlock(revision.LockCommit)},
	}
}

var (
	xpathArg   = Arg{Name: "xpath", Value: "xpath", Help: "Only what is at this path"}
	commentArg = Arg{Name: "comment", Help: "Why"}
	ownerArg   = Arg{Name: "admin", Help: "Whose lock, where it is not one's own"}
)

func showConfig(which mgmt.Which) func(context.Context, *invocation) (*Result, error) {
	return func(ctx context.Context, in *invocation) (*Result, error) { return configOf(ctx, in, which) }
}

func configOf(ctx context.Context, in *invocation, which mgmt.Which) (*Result, error) {
	nodes, err := in.m.Get(ctx, in.caller, which, or(in.Value("xpath"), "/config"))
	if err != nil {
		return nil, err
	}
	if len(nodes) == 0 {
		return nil, refusal(mgmt.CodeNotPresent, "No such node")
	}
	return &Result{Elements: Nodes(nodes), Text: documentOf(nodes)}, nil
}

func number(in *invocation, name string) int {
	n, _ := strconv.Atoi(in.Value(name)) // checked as a number; 0 where absent
	return n
}

func showVersion(ctx context.Context, in *invocation) (*Result, error) {
	return configOf(ctx, in, mgmt.Version(number(in, "version")))
}

func showDiff(ctx context.Context, in *invocation) (*Result, error) {
	from, to := mgmt.Running, mgmt.Candidate
	if n := number(in, "from"); n > 0 {
		from = mgmt.Version(n)
	}
	if n := number(in, "to"); n > 0 {
		to = mgmt.Version(n)
	}
	text, err := in.m.DiffText(ctx, in.caller, from, to)
	if err != nil {
		return nil, err
	}
	return &Result{Elements: []*Element{{Text: text}}, Text: text}, nil
}

func listChanges(ctx context.Context, in *invocation) (*Result, error) {
	changes, err := in.m.Diff(ctx, in.caller)
	if err != nil {
		return nil, err
	}
	journal, text := E("journal"), ""
	for _, c := range changes {
		journal.Add(E("entry", T("xpath", c.Path), T("action", string(c.Kind)), T("before", c.Before), T("after", c.After)))
		text += fmt.Sprintf("%s %s\n", c.Kind, c.Path)
	}
	return &Result{Elements: []*Element{journal}, Text: text}, nil
}

func changeSummary(ctx context.Context, in *invocation) (*Result, error) {
	changes, err := in.m.Diff(ctx, in.caller)
	if err != nil {
		return nil, err
	}
	if len(changes) == 0 {
		return &Result{Text: "No changes.\n"}, nil
	}
	n := strconv.Itoa(len(changes))
	return &Result{Elements: []*Element{E("summary", T("changes", n))}, Text: "changes: " + n + "\n"}, nil
}

func noComments(ctx context.Context, in *invocation) (*Result, error) {
	if _, err := in.m.Locks(ctx, in.caller); err != nil {
		return nil, err
	}
	return &Result{}, nil
}

func showVersions(ctx context.Context, in *invocation) (*Result, error) {
	list, err := in.m.Versions(ctx, in.caller)
	if err != nil {
		return nil, err
	}
	e, g := E("versions"), newGrid("Version", "Committed", "Admin", "Description")
	for _, v := range list {
		n := strconv.Itoa(v.Number)
		e.Add(Entry(n, T("time", stamp(v.At)), T("admin", v.Admin), T("from", v.From), T("description", v.Description)))
		g.row(n, stamp(v.At), v.Admin, v.Description)
	}
	return &Result{Elements: []*Element{e}, Text: g.text()}, nil
}

func knownVersions(ctx context.Context, m *mgmt.Manager, c mgmt.Caller) []Option {
	list, err := m.Versions(ctx, c)
	if err != nil {
		return nil // the command itself will say why
	}
	var found []Option
	for _, v := range list[:min(len(list), 20)] {
		found = append(found, Option{strconv.Itoa(v.Number), stamp(v.At) + " " + v.Admin + " " + v.Description})
	}
	return found
}

func pendingChanges(ctx context.Context, in *invocation) (*Result, error) {
	changes, err := in.m.Diff(ctx, in.caller)
	if err != nil {
		return nil, err
	}
	return message("%s", yesNo(len(changes) > 0)), nil
}

func fullCommit(ctx context.Context, in *invocation) (*Result, error) {
	if _, err := in.m.Locks(ctx, in.caller); err != nil {
		return nil, err
	}
	return message("no"), nil
}

func validate(ctx context.Context, in *invocation) (*Result, error) {
	job, err := in.m.Validate(ctx, in.caller)
	if err != nil {
		return nil, err
	}
	return &Result{Job: job, Text: fmt.Sprintf("Validate job enqueued with jobid %d\n", job)}, nil
}

func revert(ctx context.Context, in *invocation) (*Result, error) {
	if err := in.m.Revert(ctx, in.caller); err != nil {
		return nil, err
	}
	return said("The candidate is the running configuration again"), nil
}

func loadVersion(ctx context.Context, in *invocation) (*Result, error) {
	n := number(in, "version")
	if err := in.m.LoadVersion(ctx, in.caller, n); err != nil {
		return nil, err
	}
	return said("Config loaded from version %d", n), nil
}

// runningFile is what the running configuration is called as a file.
const runningFile = "running-config.xml"

func loadFile(ctx context.Context, in *invocation) (*Result, error) {
	name := in.Value("file")
	if name == runningFile {
		if err := in.m.Revert(ctx, in.caller); err != nil {
			return nil, err
		}
		return said("Config loaded from %s", name), nil
	}
	data, err := in.m.File(ctx, in.caller, name)
	if err != nil {
		return nil, err
	}
	defer clear(data)
	if err := in.m.LoadConfig(ctx, in.caller, data); err != nil {
		return nil, err
	}
	return said("Config loaded from %s", name), nil
}

func knownConfigurations(ctx context.Context, m *mgmt.Manager, c mgmt.Caller) []Option {
	return append([]Option{{runningFile, "The running configuration"}}, knownFiles(ctx, m, c)...)
}

// said is a message as the loading of configurations answers: <msg><line>.
func said(format string, args ...any) *Result {
	text := fmt.Sprintf(format, args...)
	return &Result{Elements: []*Element{E("msg", T("line", text))}, Text: text + "\n"}
}

func confirmCommit(ctx context.Context, in *invocation) (*Result, error) {
	if err := in.m.ConfirmCommit(ctx, in.caller); err != nil {
		return nil, err
	}
	return message("The commit is confirmed."), nil
}

func pendingConfirm(ctx context.Context, in *invocation) (*Result, error) {
	p, err := in.m.PendingConfirm(ctx, in.caller)
	if err != nil {
		return nil, err
	}
	if p == nil {
		return &Result{Elements: []*Element{T("pending", "no")}, Text: "No commit waits to be confirmed.\n"}, nil
	}
	return &Result{Elements: []*Element{T("pending", "yes"), T("deadline", stamp(p.Deadline))},
		Text: "A commit waits to be confirmed until " + stamp(p.Deadline) + "; the gateway goes back otherwise.\n"}, nil
}

func showLocks(kind string) func(context.Context, *invocation) (*Result, error) {
	return func(ctx context.Context, in *invocation) (*Result, error) {
		locks, err := in.m.Locks(ctx, in.caller)
		if err != nil {
			return nil, err
		}
		open := map[string]bool{}
		if list, err := in.m.WhoIsLoggedIn(ctx, in.caller); err == nil {
			for _, s := range list {
				open[s.Name] = true
			}
		}
		e, g := E(kind+"-locks"), newGrid("Owner", "Name", "Type", "Since", "Logged in", "Comment")
		for _, l := range locks {
			if string(l.Kind) != kind {
				continue
			}
			comment := T("comment", l.Comment)
			comment.CDATA = true
			in := yesNo(open[l.Admin])
			e.Add(Entry(l.Admin, T("name", "shared"), T("type", kind), T("created", stamp(l.At)), T("loggedin", in), comment))
			g.row(l.Admin, "shared", kind, stamp(l.At), in, l.Comment)
		}
		return &Result{Elements: []*Element{e}, Text: g.text()}, nil
	}
}

// holder is who holds a lock, "" for nobody.
func (in *invocation) holder(ctx context.Context, kind revision.LockKind) string {
	locks, err := in.m.Locks(ctx, in.caller)
	if err != nil {
		return ""
	}
	for _, l := range locks {
		if l.Kind == kind {
			return l.Admin
		}
	}
	return ""
}

// lock takes a lock. Clients know why they cannot have it by the refusal's first
// words.
func lock(kind revision.LockKind) func(context.Context, *invocation) (*Result, error) {
	return func(ctx context.Context, in *invocation) (*Result, error) {
		before := in.holder(ctx, kind)
		if err := in.m.Lock(ctx, in.caller, kind, in.Value("comment")); err != nil {
			switch {
			case mgmt.CodeOf(err) != mgmt.CodeNotPossible || before == "" || before == in.caller.Name:
				return nil, err
			case kind == revision.LockCommit:
				return nil, refusal(mgmt.CodeNotPossible, "Commit lock is already held by %s", before)
			default:
				return nil, refusal(mgmt.CodeNotPossible, "Config for scope shared is currently locked by %s", before)
			}
		}
		switch {
		case before == in.caller.Name && kind == revision.LockCommit:
			return nil, refusal(mgmt.CodeNotPossible, "Commit lock is already held by %s", before)
		case before == in.caller.Name:
			return nil, refusal(mgmt.CodeNotPossible, "You already own a config lock for scope shared")
		}
		what := "modify the configuration"
		if kind == revision.LockCommit {
			what = "commit"
		}
		return message("Successfully acquired lock. Other administrators will not be able to %s until the lock is released by %s.",
			what, in.caller.Name), nil
	}
}

func unlock(kind revision.LockKind) func(context.Context, *invocation) (*Result, error) {
	return func(ctx context.Context, in *invocation) (*Result, error) {
		if err := in.m.Unlock(ctx, in.caller, kind, in.Value("admin")); err != nil {
			switch {
			case mgmt.CodeOf(err) != mgmt.CodeNotPossible || in.holder(ctx, kind) != "":
				return nil, err
			case kind == revision.LockCommit:
				return nil, refusal(mgmt.CodeNotPossible, "Commit lock is not currently held")
			default:
				return nil, refusal(mgmt.CodeNotPossible, "Config is not currently locked for scope shared")
			}
		}
		if kind == revision.LockCommit {
			return message("Commit lock released"), nil
		}
		return message("Config lock released"), nil
	}
}
