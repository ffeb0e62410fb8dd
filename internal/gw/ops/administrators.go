package ops

import (
	"context"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/mgmt"
)

func administratorCommands() []*Command {
	of := Arg{Name: "admin", Value: "name", Help: "Of this administrator, where not one's own", known: knownAdmins}
	return []*Command{
		{Words: "set password", Help: "Set a password in the candidate configuration: one's own, or an administrator's", Args: []Arg{
			{Name: "password", Kind: Secret, Required: true, Prompt: "Enter new password", Twice: true, Help: "The new password"},
			of,
		}, run: setPassword},
		{Words: "request api-key generate", Help: "Make an API key for oneself; it is shown once", run: makeKey},
		{Words: "request api-key revoke", Help: "Revoke all API keys of an administrator", Args: []Arg{of}, run: revokeKeys},
		{Words: "request admin unlock", Help: "Let an administrator log in again who was locked out after wrong passwords", Args: []Arg{
			{Name: "name", Bare: true, Required: true, Value: "name", Help: "The administrator", known: knownAdmins},
		}, run: unlockAdmin},
		{Words: "show api-keys", Help: "List the API keys of an administrator, without the keys", Args: []Arg{of}, run: showKeys},
	}
}

func passwordHash(ctx context.Context, in *invocation) (*Result, error) {
	if _, err := in.m.SystemInfo(ctx, in.caller); err != nil {
		return nil, err
	}
	hash, err := admin.Hash([]byte(in.Value("password")))
	if err != nil {
		return nil, refusal(mgmt.CodeInvalidObject, "%s", err)
	}
	return &Result{Elements: []*Element{T("phash", hash)}, Text: hash + "\n"}, nil
}

func setPassword(ctx context.Context, in *invocation) (*Result, error) {
	name := or(in.Value("admin"), in.caller.Name)
	if err := in.m.SetPassword(ctx, in.caller, name, []byte(in.Value("password"))); err != nil {
		return nil, err
	}
	return message("The password of %s is set in the candidate configuration; it counts after a commit", name), nil
}

func unlockAdmin(ctx context.Context, in *invocation) (*Result, error) {
	name := in.Value("name")
	if err := in.m.UnlockAdministrator(ctx, in.caller, name); err != nil {
		return nil, err
	}
	return message("%s is not locked out", name), nil
}

func makeKey(ctx context.Context, in *invocation) (*Result, error) {
	key, err := in.m.KeyGen(ctx, in.caller)
	if err != nil {
		return nil, err
	}
	return &Result{Elements: []*Element{T("key", key)}, Text: key + "\n"}, nil
}

func revokeKeys(ctx context.Context, in *invocation) (*Result, error) {
	n, err := in.m.RevokeAPIKeys(ctx, in.caller, in.Value("admin"))
	if err != nil {
		return nil, err
	}
	return message("%d API keys of %s are revoked", n, or(in.Value("admin"), in.caller.Name)), nil
}

func showKeys(ctx context.Context, in *invocation) (*Result, error) {
	keys, err := in.m.APIKeys(ctx, in.caller, in.Value("admin"))
	if err != nil {
		return nil, err
	}
	e, g := E("api-keys"), newGrid("ID", "Made", "Expires", "Last used")
	for _, k := range keys {
		expires := or(stamp(k.ExpiresAt), "never")
		e.Add(Entry(k.ID, T("created", stamp(k.Created)), T("expires", expires), T("last-used", stamp(k.LastUsed))))
		g.row(k.ID, stamp(k.Created), expires, stamp(k.LastUsed))
	}
	return &Result{Elements: []*Element{e}, Text: g.text()}, nil
}

func knownAdmins(ctx context.Context, m *mgmt.Manager, c mgmt.Caller) []Option {
	accounts, err := m.Get(ctx, c, mgmt.Candidate, "/config/mgt-config/users/entry")
	if err != nil {
		return nil // the command itself will say why
	}
	var found []Option
	for _, a := range accounts {
		found = append(found, Option{Word: a.Entry})
	}
	return found
}
