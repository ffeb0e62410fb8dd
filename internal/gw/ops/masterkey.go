package ops

import (
	"context"
	"strconv"
	"strings"
	"time"

	"moongate/internal/gw/mgmt"
	"moongate/internal/gw/vault"
)

func masterKeyCommands() []*Command {
	officer := Arg{Name: "hsm-password", Kind: Secret, Prompt: "Enter password of the Crypto Officer", Help: "The password of the partition's Crypto Officer, for a wrapping key that is made; not needed where the gateway keeps it"}
	storing, rotating := officer, officer
	storing.wanted = func(call *Call, m *mgmt.Manager, c mgmt.Caller) bool {
		return call.Value("on-hsm") == "yes" && m.OfficerNeeded(c, false)
	}
	rotating.Name = "password"
	rotating.wanted = func(_ *Call, m *mgmt.Manager, c mgmt.Caller) bool { return m.OfficerNeeded(c, true) }
	return []*Command{
		{Words: "show system masterkey-properties", Help: "Show when the master key expires, and where it is", run: showMasterKey},
		{Words: "request master-key", Help: "Change the master key, which everything secret in the configuration is sealed under, or where it is", Args: []Arg{
			{Name: "new-master-key", Kind: Secret, Required: true, Unless: "on-hsm", Prompt: "Enter new master key", Twice: true, Help: "The new master key, 16 bytes or more; with on-hsm it may stay the same"},
			{Name: "current-master-key", Kind: Secret, Help: "The current master key; the first one, made at random, need not be given", Prompt: "Enter current master key"},
			{Name: "lifetime", Kind: Number, Required: true, Unless: "on-hsm", Min: 1, Max: 17520, Value: "1-17520", Help: "Hours until it expires, at most 730 days"},
			{Name: "reminder", Kind: Number, Min: 1, Max: 8760, Value: "1-8760", Help: "Hours before that in which reminders come, at most 365 days and not longer than the lifetime"},
			{Name: "auto-renew", Kind: Number, Min: 1, Max: 17520, Value: "1-17520", Help: "Hours by which its life is made longer whenever it ends; without, it is not"},
			{Name: "on-hsm", Kind: Choice, Choices: yesOrNo, Help: "Whether it is stored on the HSM: wrapped by a key that never leaves it, and in no file; left as it is by default"},
			storing,
		}, run: changeMasterKey},
		{Words: "request master-key recover", Help: "Enter the master key again, when the HSM does not unwrap it: its wrapping key is lost, or the HSM is away", Args: []Arg{
			{Name: "master-key", Kind: Secret, Required: true, Prompt: "Enter master key", Help: "The master key as it was given; of one made at random, the 64 digits of its file"},
			officer,
		}, run: recoverMasterKey},
		{Words: "request hsm mkey-wrapping-key-rotation", Help: "Make a new key on the HSM that wraps the master key, and wrap it by that where it is stored on the HSM; the old one is kept", Args: []Arg{rotating}, run: rotateWrappingKey},
		{Words: "show hsm mkey-wrapping-keys", Help: "Show the keys on the HSM that wrap the master key, or did, or will", run: showWrappingKeys},
	}
}

// showMasterKey has its children in the order that clients index them by.
func showMasterKey(ctx context.Context, in *invocation) (*Result, error) {
	p, err := in.m.MasterKey(ctx, in.caller)
	if err != nil {
		return nil, err
	}
	info, err := in.m.SystemInfo(ctx, in.caller)
	if err != nil {
		return nil, err
	}
	var list []*Element
	times := func(name, part string, at time.Time) {
		if at.IsZero() {
			list = append(list, T(name, "n/a"), T("hours-to-"+part, "n/a"), T("minutes-to-"+part, "n/a"), T("seconds-to-"+part, "n/a"))
			return
		}
		left := max(0, at.Sub(info.Time))
		whole := func(unit time.Duration) string { return strconv.Itoa(int(left / unit)) }
		list = append(list, T(name, stamp(at)), T("hours-to-"+part, whole(time.Hour)),
			T("minutes-to-"+part, whole(time.Minute)), T("seconds-to-"+part, whole(time.Second)))
	}
	times("expire-at", "expiry", p.ExpireAt)
	times("remind-at", "reminder", p.RemindAt)
	list = append(list, T("on-hsm", yesNo(p.OnHSM)), T("auto-renew-mkey", yesNo(p.AutoRenew)))
	text := pairs(list...)
	if p.OnHSM {
		text += "wrapping-key: " + p.WrappingKey + "\n"
		if p.Wraps > 1 {
			text += "It is wrapped by older wrapping keys, too, until every HSM of the group is known to hold that one.\n"
		}
		if in.m.VaultLocked() {
			text += "It is not unlocked: " + info.Trouble + "\n"
		}
		if p.Generated {
			text += "The master key was made at random at the first start: nobody can enter it again, should the wrapping key be lost.\n"
		}
	} else {
		text += "file: " + p.File + "\n"
	}
	if p.Generated && !p.OnHSM {
		text += "The master key was made at random at the first start; who can read its file can read all secrets.\n"
	}
	return &Result{Elements: list, Text: text}, nil
}

func changeMasterKey(ctx context.Context, in *invocation) (*Result, error) {
	change := vault.Change{
		Current:   []byte(in.Value("current-master-key")),
		Lifetime:  time.Duration(number(in, "lifetime")) * time.Hour,
		Reminder:  time.Duration(number(in, "reminder")) * time.Hour,
		AutoRenew: time.Duration(number(in, "auto-renew")) * time.Hour,
	}
	if in.Has("new-master-key") {
		change.New = []byte(in.Value("new-master-key"))
		if !in.Has("lifetime") {
			return nil, refusal(mgmt.CodeInvalidCommand, "request -> master-key -> lifetime is missing: a new master key needs one, in hours")
		}
	}
	if in.Has("on-hsm") {
		on := in.Value("on-hsm") == "yes"
		change.OnHSM = &on
	}
	defer clear(change.Current)
	defer clear(change.New)
	officer := []byte(in.Value("hsm-password"))
	defer clear(officer)
	notes, err := in.m.ChangeMasterKey(ctx, in.caller, change, officer)
	if err != nil {
		return nil, err
	}
	return message("%s", noted("Master key changed successfully", notes)), nil
}

func recoverMasterKey(ctx context.Context, in *invocation) (*Result, error) {
	given := []byte(in.Value("master-key"))
	defer clear(given)
	officer := []byte(in.Value("hsm-password"))
	defer clear(officer)
	notes, err := in.m.RecoverMasterKey(ctx, in.caller, given, officer)
	if err != nil {
		return nil, err
	}
	return message("%s", noted("Master key accepted", notes)), nil
}

// noted is what was done, and a line for each note.
func noted(done string, notes mgmt.MasterKeyNotes) string {
	return strings.Join(append([]string{done}, notes...), "\n")
}

func rotateWrappingKey(ctx context.Context, in *invocation) (*Result, error) {
	officer := []byte(in.Value("password"))
	defer clear(officer)
	done, err := in.m.RotateWrappingKey(ctx, in.caller, officer)
	if err != nil {
		return nil, err
	}
	notes := mgmt.MasterKeyNotes{"New wrapping key: " + done.Key}
	switch {
	case !done.OnHSM:
		notes = append(notes, "The master key is not stored on the HSM; the key is for when it is")
	case len(done.Missing) > 0:
		notes = append(notes, "Not known to hold it: "+strings.Join(done.Missing, ", ")+". The master key stays wrapped by the old key, too, until they do: run `request hsm ha synchronize`")
	default:
		notes = append(notes, "The master key is wrapped by it; the old key is kept on the HSM")
	}
	return message("%s", noted("Wrapping key rotated successfully", notes)), nil
}

func showWrappingKeys(ctx context.Context, in *invocation) (*Result, error) {
	list, cause, err := in.m.WrappingKeys(ctx, in.caller)
	if err != nil {
		return nil, err
	}
	all, table := E("wrapping-keys"), newGrid("Wrapping key", "Created", "Retired", "On the HSM", "Use")
	for _, k := range list {
		e := Entry(k.Key, T("created", stamp(k.Created)), T("retired", stamp(k.Retired)), T("on-hsm", k.OnHSM), T("use", string(k.Use)))
		on := k.OnHSM
		if len(k.Missing) > 0 {
			e.Add(T("missing", strings.Join(k.Missing, ", ")))
			on += ", not on " + strings.Join(k.Missing, ", ")
		}
		table.row(k.Key, stamp(k.Created), stamp(k.Retired), on, string(k.Use))
		all.Add(e)
	}
	r := &Result{Elements: []*Element{all}, Text: table.text()}
	if cause != nil {
		all.Add(T("trouble", cause.Error()))
		r.Text += cause.Error() + "\n"
	}
	return r, nil
}
