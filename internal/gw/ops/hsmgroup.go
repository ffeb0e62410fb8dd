package ops

import (
	"context"
	"fmt"
	"strings"

	"moongate/internal/gw/hsmlink"
	"moongate/internal/gw/mgmt"
)

func hsmGroupCommands() []*Command {
	// As administrators type it, the word password stands alone, and the
	// password is asked for; without the word, the one that is kept is used.
	password := Arg{Name: "password", Kind: Secret, Prompt: "Enter partition password", Help: "The Crypto Officer's password, the same on every HSM; without it, the one that the gateway keeps"}
	return []*Command{
		{Words: "show hsm ha-status", Help: "Show the HA group and how each of its members stands", run: showHAStatus},
		{Words: "request hsm ha create-ha-group", Help: "Make the configured HSM servers an HA group", Args: []Arg{password}, run: groupJob((*mgmt.Manager).HSMCreateGroup)},
		{Words: "request hsm ha synchronize", Help: "Bring all members of the HA group to the same keys", Args: []Arg{password}, run: groupJob((*mgmt.Manager).HSMSynchronize)},
		{Words: "request hsm ha replace-server", Help: "Make the HA group the configured HSM servers: add those that it lacks, remove those that are gone", Args: []Arg{password}, run: groupJob((*mgmt.Manager).HSMReplaceServers)},
	}
}

// groupJob starts a job on the group.
func groupJob(start func(*mgmt.Manager, context.Context, mgmt.Caller, []byte) (int, error)) func(context.Context, *invocation) (*Result, error) {
	return func(ctx context.Context, in *invocation) (*Result, error) {
		password := []byte(in.Value("password"))
		defer clear(password)
		id, err := start(in.m, ctx, in.caller, password)
		if err != nil {
			return nil, err
		}
		return &Result{Job: id, Text: fmt.Sprintf("HSM job enqueued with jobid %d\n", id)}, nil
	}
}

func groupElement(status hsmlink.Status) *Element {
	g := status.Group
	e := E("ha", T("group-name", g.Name), T("state", string(g.State)), T("auto-recovery-retry", fmt.Sprint(g.Retry)),
		T("serial-number", g.Record.Serial), T("epoch", fmt.Sprint(g.Record.Epoch)))
	if g.Problem != nil {
		e.Add(T("reason", g.Problem.Reason), T("fix", g.Problem.Fix))
	}
	members := E("members")
	for i := range status.Servers {
		s := &status.Servers[i]
		m := s.Member
		if m == nil {
			continue
		}
		entry := Entry(s.Name, T("state", m.State.String()), T("since", stamp(m.Since)), T("serial-number", m.Serial), T("outstanding", fmt.Sprint(m.Outstanding)),
			T("failovers", fmt.Sprint(m.Failovers)), T("digest", digest(m.Digest.Sum)), T("objects", fmt.Sprint(m.Digest.Objects)), T("equal", yesNo(m.Equal)),
			T("behind", fmt.Sprint(m.Behind)), T("pending", fmt.Sprint(m.Pending)))
		if m.Reason != "" {
			entry.Add(T("reason", m.Reason), T("fix", m.Fix))
		}
		members.Add(entry)
	}
	e.Add(members)
	conflicts := E("conflicts")
	for _, c := range g.Conflicts {
		conflicts.Add(T("member", c.String()))
	}
	return e.Add(conflicts)
}

// digest is enough of a digest to compare by eye.
func digest(sum [32]byte) string {
	if sum == ([32]byte{}) {
		return ""
	}
	return fmt.Sprintf("%x", sum[:8])
}

func groupText(b *strings.Builder, status hsmlink.Status) {
	g := status.Group
	fmt.Fprintf(b, "\nHA group %s: %s", g.Name, g.State)
	if g.Record.Epoch > 0 {
		fmt.Fprintf(b, ", serial number %s, epoch %d", g.Record.Serial, g.Record.Epoch)
	}
	b.WriteString("\n")
	if g.Problem != nil {
		fmt.Fprintf(b, "  %s\n", g.Problem.Reason)
		if g.Problem.Fix != "" {
			fmt.Fprintf(b, "  fix: %s\n", g.Problem.Fix)
		}
	}
	grid, some := newGrid("Member", "State", "Since", "Outstanding", "Failovers", "Objects", "Digest", "Behind", "Pending"), false
	var reasons strings.Builder
	for i := range status.Servers {
		m := status.Servers[i].Member
		if m == nil {
			continue
		}
		some = true
		behind := fmt.Sprint(m.Behind)
		if m.Behind < 0 {
			behind = "?"
		}
		grid.row(status.Servers[i].Name, m.State.String(), stampOrNone(m.Since), fmt.Sprint(m.Outstanding), fmt.Sprint(m.Failovers), fmt.Sprint(m.Digest.Objects), digest(m.Digest.Sum), behind, fmt.Sprint(m.Pending))
		if m.Reason != "" {
			fmt.Fprintf(&reasons, "  %s: %s\n", status.Servers[i].Name, strings.TrimSuffix(m.Reason+"; "+m.Fix, "; "))
		}
	}
	if some {
		b.WriteString(grid.text() + reasons.String())
	}
	for _, c := range g.Conflicts {
		fmt.Fprintf(b, "  conflict: %v\n", c)
	}
	for _, name := range g.Unrecorded {
		fmt.Fprintf(b, "  %s is configured and not in the group: request hsm ha replace-server password\n", name)
	}
	for _, name := range g.Unconfigured {
		fmt.Fprintf(b, "  %s is in the group and not configured: request hsm ha replace-server password\n", name)
	}
}

func showHAStatus(ctx context.Context, in *invocation) (*Result, error) {
	status, err := in.m.HSMStatus(ctx, in.caller)
	if err != nil {
		return nil, err
	}
	if status.Group == nil {
		return &Result{Elements: []*Element{E("ha", T("state", "not configured"))},
			Text: "No HA group is configured: set deviceconfig system hsm-settings provider safenet-network ha\n"}, nil
	}
	var b strings.Builder
	groupText(&b, status)
	return &Result{Elements: []*Element{groupElement(status)}, Text: strings.TrimPrefix(b.String(), "\n")}, nil
}
