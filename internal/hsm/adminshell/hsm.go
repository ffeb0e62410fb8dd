package adminshell

import (
	"context"
	"fmt"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/partition"
	"moongate/internal/hsm/users"
)

var hsmCommands = []command{
	{words: "hsm init", roles: admins, needs: nothing, run: (*Shell).hsmInit,
		options: []option{{name: "label", value: "LABEL", required: true, help: "name of the HSM"}, optForce},
		help:    "Make an HSM where there is none, or none any more: its label and its Security Officer."},
	{words: "hsm show", roles: lookers, options: []option{optJSON}, needs: nothing, run: (*Shell).hsmShow,
		help: "The appliance, the HSM, its partitions, FIPS mode, storage, login attempts left, audit."},
	{words: "hsm login", roles: operators, run: (*Shell).hsmLogin,
		help: "Log in as the Security Officer until `hsm logout` or the end of the session.\nTHREE WRONG PASSWORDS IN A ROW DESTROY EVERY KEY; before the last one the shell asks."},
	{words: "hsm logout", roles: operators, needs: nothing, run: (*Shell).hsmLogout,
		help: "Log the Security Officer out."},
	{words: "hsm changePw", roles: admins, run: (*Shell).hsmChangePassword,
		help: "Change the Security Officer's password, by the old one."},
	{words: "hsm zeroize", roles: admins, options: []option{optForce}, run: (*Shell).hsmZeroize,
		help: "Destroy every key, partition, client and password of the HSM (Security Officer; at the console anybody).\nThe appliance's accounts and the audit log stay."},
}

func (s *Shell) hsmInit(ctx context.Context, a args) error {
	if s.appliance.HSM.Initialized() {
		return object.Errorf(object.ErrExists, "the HSM is initialised; `hsm zeroize` destroys it with every key, and then it can be made anew")
	}
	if err := s.confirm(a, "Are you sure you wish to initialise this HSM as "+a.get("label")+"?", "initialise the HSM"); err != nil {
		return err
	}
	pw, err := s.askNew("the HSM's Security Officer")
	if err != nil {
		return err
	}
	defer clear(pw)
	if err := s.appliance.HSM.Initialize(ctx, s.who.Operator, partition.InitOptions{Label: a.get("label"), Officer: pw}); err != nil {
		return err
	}
	s.logins.forget()
	s.successful("hsm init")
	return nil
}

// hsmView is what `hsm show` shows.
type hsmView struct {
	partition.Info
	Version       string       `json:"version"`
	MaxPartitions int          `json:"max_partitions"`
	Storage       *storageView `json:"storage,omitempty"` // where the HSM is served
	Audit         auditView    `json:"audit"`
}

type storageView struct {
	StoreBytes int64  `json:"store_bytes"`
	AuditBytes int64  `json:"audit_bytes"`
	FreeBytes  uint64 `json:"free_bytes"`
}

func (s *Shell) view() (hsmView, error) {
	info, err := s.appliance.HSM.Info()
	if err != nil {
		return hsmView{}, err
	}
	v := hsmView{Info: info, Version: s.appliance.Version, MaxPartitions: partition.MaxPartitions, Audit: s.auditView()}
	if s.appliance.Control != nil {
		f := s.appliance.Control.Figures()
		v.Storage = &storageView{f.StoreBytes, f.AuditBytes, f.FreeBytes}
	}
	return v, nil
}

func (s *Shell) hsmShow(_ context.Context, a args) error {
	v, err := s.view()
	if err != nil {
		return err
	}
	if a.has("json") {
		return s.printJSON(v)
	}
	t := s.table()
	fmt.Fprintf(t, "Software Version:\t%s\n", v.Version)
	fmt.Fprintf(t, "Serial #:\t%s\n", v.Serial)
	if v.Initialized {
		fmt.Fprintf(t, "HSM Label:\t%s\n", v.Label)
		fmt.Fprintf(t, "Initialised:\t%s\n", v.Created.Format(time.RFC3339))
		fmt.Fprintf(t, "SO login attempts left:\t%d\n", v.OfficerAttempts)
		fmt.Fprintf(t, "Auditor:\t%s\n", yesNo(v.Auditor, "initialised", "none; `audit init` makes one"))
	} else {
		fmt.Fprintf(t, "Initialised:\tno; run `hsm init -label LABEL`\n")
	}
	fmt.Fprintf(t, "Cryptography:\t%s\n", v.FIPS)
	fmt.Fprintf(t, "Partitions:\t%d of %d\n", v.Partitions, v.MaxPartitions)
	fmt.Fprintf(t, "Registered clients:\t%d\n", v.Clients)
	fmt.Fprintf(t, "Client address check:\t%s\n", enabled(v.AddressCheck))
	fmt.Fprintf(t, "Forced SO login:\t%s\n", enabled(v.ForceLogin))
	if v.Storage != nil {
		fmt.Fprintf(t, "Storage:\t%s\n", v.Storage)
	}
	fmt.Fprintf(t, "Audit log:\t%s\n", v.Audit)
	return t.Flush()
}

func (v storageView) String() string {
	return fmt.Sprintf("keys %s, audit log %s, free %s", size(v.StoreBytes), size(v.AuditBytes), size(int64(min(v.FreeBytes, 1<<62))))
}

func yesNo(is bool, yes, no string) string {
	if is {
		return yes
	}
	return no
}

// size writes a number of bytes in a unit that people read.
func size(n int64) string {
	const units = "KMGTPE"
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	i, f := 0, float64(n)/(1<<10)
	for f >= 1<<10 {
		f /= 1 << 10
		i++
	}
	return fmt.Sprintf("%.1f %ciB", f, units[i])
}

func (s *Shell) hsmLogin(ctx context.Context, _ args) error {
	s.logins.officer = nil
	o, err := s.authenticateOfficer(ctx)
	if err != nil {
		return err
	}
	s.logins.officer = o
	s.successful("hsm login")
	return nil
}

func (s *Shell) hsmLogout(context.Context, args) error {
	s.logins.officer = nil
	s.successful("hsm logout")
	return nil
}

// hsmChangePassword asks for the old password also within a login: who finds
// an open session must not be able to take it over for good.
func (s *Shell) hsmChangePassword(ctx context.Context, _ args) error {
	s.logins.officer = nil
	o, err := s.authenticateOfficer(ctx)
	if err != nil {
		return err
	}
	fresh, err := s.askNew("the HSM's Security Officer")
	if err != nil {
		return err
	}
	defer clear(fresh)
	if err := o.ChangePassword(ctx, fresh); err != nil {
		return err
	}
	s.successful("hsm changePw")
	return nil
}

// hsmZeroize asks nobody at the console for a password: who stands there can
// remove the files, and the password may be what was lost.
func (s *Shell) hsmZeroize(ctx context.Context, a args) error {
	err := s.confirm(a, "Are you sure you wish to zeroize the HSM? Every key, partition, client registration and password is destroyed, and cannot be brought back but from a backup.", "zeroize the HSM")
	if err != nil {
		return err
	}
	if s.who.Role == users.RoleConsole {
		err = s.appliance.HSM.Zeroize(ctx, s.who.Operator)
	} else {
		var o *partition.Officer
		if o, err = s.asOfficer(ctx); err == nil {
			err = o.Zeroize(ctx)
		}
	}
	if err != nil {
		return err
	}
	s.logins.forget()
	s.successful("hsm zeroize")
	return nil
}

// forced refuses a change of the appliance while the Security Officer wants to
// be there for each (`sysconf forceSOLogin`), unless the password is right.
func (s *Shell) forced(ctx context.Context) error {
	info, err := s.appliance.HSM.Info()
	if err != nil || !info.Initialized || !info.ForceLogin {
		return err
	}
	_, err = s.asOfficer(ctx)
	return err
}
