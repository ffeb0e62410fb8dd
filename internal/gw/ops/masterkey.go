package ops

import (
	"context"
	"strconv"
	"time"

	"moongate/internal/gw/mgmt"
	"moongate/internal/gw/vault"
)

func masterKeyCommands() []*Command {
	return []*Command{
		{Words: "show system masterkey-properties", Help: "Show when the master key expires, and where it is", run: showMasterKey},
		{Words: "request master-key", Help: "Change the master key, which everything secret in the configuration is sealed under", Args: []Arg{
			{Name: "new-master-key", Kind: Secret, Required: true, Prompt: "Enter new master key", Twice: true, Help: "The new master key, 16 bytes or more"},
			{Name: "current-master-key", Kind: Secret, Help: "The current master key; the first one, made at random, need not be given", Prompt: "Enter current master key"},
			{Name: "lifetime", Kind: Number, Required: true, Min: 1, Max: 17520, Value: "1-17520", Help: "Hours until it expires"},
			{Name: "reminder", Kind: Number, Min: 1, Max: 8760, Value: "1-8760", Help: "Hours before that in which reminders come"},
			{Name: "on-hsm", Kind: Choice, Choices: yesOrNo, Help: "Wrap it by a key on the HSM: no; yes is not supported yet"},
		}, run: changeMasterKey},
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
	text := pairs(list...) + "file: " + p.File + "\n"
	if p.Generated {
		text += "The master key was made at random at the first start; who can read its file can read all secrets.\n"
	}
	return &Result{Elements: list, Text: text}, nil
}

func changeMasterKey(ctx context.Context, in *invocation) (*Result, error) {
	if in.Value("on-hsm") == "yes" {
		return nil, refusal(mgmt.CodeNotPossible, "request -> master-key -> on-hsm: yes is not supported yet: the master key is kept in a file of the gateway, leave on-hsm out")
	}
	err := in.m.ChangeMasterKey(ctx, in.caller, vault.Change{
		Current:  []byte(in.Value("current-master-key")),
		New:      []byte(in.Value("new-master-key")),
		Lifetime: time.Duration(number(in, "lifetime")) * time.Hour,
		Reminder: time.Duration(number(in, "reminder")) * time.Hour,
	})
	if err != nil {
		return nil, err
	}
	return message("Master key changed successfully"), nil
}
