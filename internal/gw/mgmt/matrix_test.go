package mgmt

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/config"
	"moongate/internal/gw/hsmlink"
	"moongate/internal/gw/logstore"
	"moongate/internal/gw/plane"
	"moongate/internal/gw/revision"
	"moongate/internal/gw/vault"
)

// call is one operation as somebody may ask for it.
type call struct {
	name string
	op   admin.Operation // that it needs
	do   func(ctx context.Context, w *world, c Caller) error
}

// second drops the value of an answer.
func second[T any](_ T, err error) error { return err }

// calls are all methods that a caller has, each at least once.
func calls(t *testing.T) []call {
	edit := set(t, hostnamePath, "gw1")
	return []call{
		{"Get", admin.OpReadConfig, func(ctx context.Context, w *world, c Caller) error { return second(w.Get(ctx, c, Running, "/config")) }},
		{"Diff", admin.OpReadConfig, func(ctx context.Context, w *world, c Caller) error { return second(w.Diff(ctx, c)) }},
		{"DiffText", admin.OpReadConfig, func(ctx context.Context, w *world, c Caller) error {
			return second(w.DiffText(ctx, c, Running, Candidate))
		}},
		{"ExportConfig", admin.OpReadConfig, func(ctx context.Context, w *world, c Caller) error {
			return second(w.ExportConfig(ctx, c, Running))
		}},
		{"Versions", admin.OpReadConfig, func(ctx context.Context, w *world, c Caller) error { return second(w.Versions(ctx, c)) }},
		{"PendingConfirm", admin.OpReadConfig, func(ctx context.Context, w *world, c Caller) error { return second(w.PendingConfirm(ctx, c)) }},
		{"Locks", admin.OpReadConfig, func(ctx context.Context, w *world, c Caller) error { return second(w.Locks(ctx, c)) }},
		{"CertificateStates", admin.OpReadConfig, func(ctx context.Context, w *world, c Caller) error {
			return second(w.CertificateStates(ctx, c))
		}},
		{"Jobs", admin.OpReadJobs, func(ctx context.Context, w *world, c Caller) error { return second(w.Jobs(ctx, c)) }},
		{"Job", admin.OpReadJobs, func(ctx context.Context, w *world, c Caller) error { return second(w.Job(ctx, c, 1)) }},
		{"WaitJob", admin.OpReadJobs, func(ctx context.Context, w *world, c Caller) error { return second(w.WaitJob(ctx, c, 99, nil)) }},
		{"Logs", admin.OpReadLogs, func(ctx context.Context, w *world, c Caller) error {
			return second(w.Logs(ctx, c, logstore.Query{Log: logstore.System}))
		}},
		{"StartLogQuery", admin.OpReadLogs, func(ctx context.Context, w *world, c Caller) error {
			return second(w.StartLogQuery(ctx, c, logstore.Query{Log: logstore.System}))
		}},
		{"LogQueryResult", admin.OpReadLogs, func(ctx context.Context, w *world, c Caller) error {
			_, _, err := w.LogQueryResult(ctx, c, 1)
			return err
		}},
		{"SystemInfo", admin.OpReadSystem, func(ctx context.Context, w *world, c Caller) error { return second(w.SystemInfo(ctx, c)) }},
		{"HSMState", admin.OpReadSystem, func(ctx context.Context, w *world, c Caller) error { return second(w.HSMState(ctx, c)) }},
		{"MasterKey", admin.OpReadSystem, func(ctx context.Context, w *world, c Caller) error { return second(w.MasterKey(ctx, c)) }},
		{"Counters", admin.OpReadSystem, func(ctx context.Context, w *world, c Caller) error { return second(w.Counters(ctx, c)) }},
		{"DecryptSettings", admin.OpReadSystem, func(ctx context.Context, w *world, c Caller) error { return second(w.DecryptSettings(ctx, c)) }},
		{"CertCache", admin.OpReadSystem, func(ctx context.Context, w *world, c Caller) error { return second(w.CertCache(ctx, c)) }},
		{"ExcludeCache", admin.OpReadSystem, func(ctx context.Context, w *world, c Caller) error { return second(w.ExcludeCache(ctx, c)) }},
		{"SessionCache", admin.OpReadSystem, func(ctx context.Context, w *world, c Caller) error { return second(w.SessionCache(ctx, c)) }},
		{"RuleHits", admin.OpReadSystem, func(ctx context.Context, w *world, c Caller) error { return second(w.RuleHits(ctx, c)) }},
		{"Sessions", admin.OpReadSessions, func(ctx context.Context, w *world, c Caller) error { return second(w.Sessions(ctx, c, nil)) }},
		{"SessionInfo", admin.OpReadSessions, func(ctx context.Context, w *world, c Caller) error { return second(w.SessionInfo(ctx, c)) }},
		{"WhoIsLoggedIn", admin.OpReadAdmins, func(ctx context.Context, w *world, c Caller) error { return second(w.WhoIsLoggedIn(ctx, c)) }},
		{"LoginStatus", admin.OpReadAdmins, func(ctx context.Context, w *world, c Caller) error { return second(w.LoginStatus(ctx, c, "root")) }},
		{"Explain", admin.OpExplain, func(ctx context.Context, w *world, c Caller) error {
			return second(w.Explain(ctx, c, plane.Query{Host: "x.example"}))
		}},
		{"CSR", admin.OpExportCertificate, func(ctx context.Context, w *world, c Caller) error { return second(w.CSR(ctx, c, "x")) }},
		{"ExportCertificate", admin.OpExportCertificate, func(ctx context.Context, w *world, c Caller) error {
			_, _, err := w.ExportCertificate(ctx, c, ExportRequest{Name: "x", Format: "pem"})
			return err
		}},
		{"ExportCertificate with its key", admin.OpExportKey, func(ctx context.Context, w *world, c Caller) error {
			_, _, err := w.ExportCertificate(ctx, c, ExportRequest{Name: "x", Format: "pem", IncludeKey: true, Passphrase: []byte("a passphrase of it")})
			return err
		}},
		{"SetPassword, one's own", admin.OpOwnPassword, func(ctx context.Context, w *world, c Caller) error {
			return w.SetPassword(ctx, c, c.Name, []byte("another password"))
		}},
		{"SetPassword", admin.OpAdminPasswords, func(ctx context.Context, w *world, c Caller) error {
			return w.SetPassword(ctx, c, "second", []byte("another password"))
		}},
		{"KeyGen", admin.OpOwnAPIKeys, func(ctx context.Context, w *world, c Caller) error { return second(w.KeyGen(ctx, c)) }},
		{"APIKeys, one's own", admin.OpOwnAPIKeys, func(ctx context.Context, w *world, c Caller) error { return second(w.APIKeys(ctx, c, "")) }},
		{"RevokeAPIKeys, one's own", admin.OpOwnAPIKeys, func(ctx context.Context, w *world, c Caller) error {
			return second(w.RevokeAPIKeys(ctx, c, ""))
		}},
		{"APIKeys", admin.OpAdminAPIKeys, func(ctx context.Context, w *world, c Caller) error { return second(w.APIKeys(ctx, c, "second")) }},
		{"RevokeAPIKeys", admin.OpAdminAPIKeys, func(ctx context.Context, w *world, c Caller) error {
			return second(w.RevokeAPIKeys(ctx, c, "second"))
		}},
		{"UnlockAdministrator", admin.OpUnlockAdmin, func(ctx context.Context, w *world, c Caller) error {
			return w.UnlockAdministrator(ctx, c, "second")
		}},
		{"Change", admin.OpEditConfig, func(ctx context.Context, w *world, c Caller) error { return w.Change(ctx, c, edit) }},
		{"Change of administrators", admin.OpEditAdmins, func(ctx context.Context, w *world, c Caller) error {
			return w.Change(ctx, c, config.Edit{Op: config.OpDelete, Path: userPath("other")})
		}},
		{"HSMStatus", admin.OpReadSystem, func(ctx context.Context, w *world, c Caller) error { return second(w.HSMStatus(ctx, c)) }},
		{"HSMHostKey", admin.OpHSM, func(ctx context.Context, w *world, c Caller) error { return second(w.HSMHostKey(ctx, c, "s")) }},
		{"HSMAuthenticate", admin.OpHSM, func(ctx context.Context, w *world, c Caller) error {
			return w.HSMAuthenticate(ctx, c, "s", hsmlink.AuthenticateRequest{}, nil)
		}},
		{"HSMImportServerCertificate", admin.OpHSM, func(ctx context.Context, w *world, c Caller) error {
			return second(w.HSMImportServerCertificate(ctx, c, "s", []byte("x")))
		}},
		{"HSMForgetServerCertificate", admin.OpHSM, func(ctx context.Context, w *world, c Caller) error {
			return w.HSMForgetServerCertificate(ctx, c, "s", "00")
		}},
		{"HSMClientCertificate", admin.OpExportCertificate, func(ctx context.Context, w *world, c Caller) error {
			return second(w.HSMClientCertificate(ctx, c, "s"))
		}},
		{"HSMRenewClientCertificate", admin.OpHSM, func(ctx context.Context, w *world, c Caller) error {
			return second(w.HSMRenewClientCertificate(ctx, c))
		}},
		{"HSMLogin", admin.OpHSM, func(ctx context.Context, w *world, c Caller) error {
			return second(w.HSMLogin(ctx, c, hsmlink.LoginRequest{Role: hsmlink.CryptoOfficer, Password: []byte("a password of it")}))
		}},
		{"HSMLogout", admin.OpHSM, func(ctx context.Context, w *world, c Caller) error { return w.HSMLogout(ctx, c, "") }},
		{"HSMReset", admin.OpHSM, func(ctx context.Context, w *world, c Caller) error { return w.HSMReset(ctx, c) }},
		{"HSMCreateGroup", admin.OpHSM, func(ctx context.Context, w *world, c Caller) error { return second(w.HSMCreateGroup(ctx, c, nil)) }},
		{"HSMSynchronize", admin.OpHSM, func(ctx context.Context, w *world, c Caller) error { return second(w.HSMSynchronize(ctx, c, nil)) }},
		{"HSMReplaceServers", admin.OpHSM, func(ctx context.Context, w *world, c Caller) error {
			return second(w.HSMReplaceServers(ctx, c, nil))
		}},
		{"PutFile", admin.OpFiles, func(ctx context.Context, w *world, c Caller) error { return w.PutFile(ctx, c, "f", []byte("x")) }},
		{"File", admin.OpFiles, func(ctx context.Context, w *world, c Caller) error { return second(w.File(ctx, c, "f")) }},
		{"Files", admin.OpFiles, func(ctx context.Context, w *world, c Caller) error { return second(w.Files(ctx, c)) }},
		{"DropFile", admin.OpFiles, func(ctx context.Context, w *world, c Caller) error { return w.DropFile(ctx, c, "f") }},
		{"CertificateNames", admin.OpReadConfig, func(ctx context.Context, w *world, c Caller) error { return second(w.CertificateNames(ctx, c)) }},
		{"Validate", admin.OpValidate, func(ctx context.Context, w *world, c Caller) error { return second(w.Validate(ctx, c)) }},
		{"Commit", admin.OpCommit, func(ctx context.Context, w *world, c Caller) error {
			id, err := w.Commit(ctx, c, CommitRequest{Force: true})
			if err == nil {
				w.wait(id)
			}
			return err
		}},
		{"ConfirmCommit", admin.OpCommit, func(ctx context.Context, w *world, c Caller) error { return w.ConfirmCommit(ctx, c) }},
		{"Revert", admin.OpRevert, func(ctx context.Context, w *world, c Caller) error { return w.Revert(ctx, c) }},
		{"LoadVersion", admin.OpLoadConfig, func(ctx context.Context, w *world, c Caller) error { return w.LoadVersion(ctx, c, 1) }},
		{"LoadConfig", admin.OpLoadConfig, func(ctx context.Context, w *world, c Caller) error {
			return w.LoadConfig(ctx, c, []byte("<config"))
		}},
		{"Lock", admin.OpLock, func(ctx context.Context, w *world, c Caller) error {
			err := w.Lock(ctx, c, revision.LockCommit, "")
			return errors.Join(err, w.Unlock(ctx, c, revision.LockCommit, ""))
		}},
		{"Unlock of another", admin.OpBreakLock, func(ctx context.Context, w *world, c Caller) error {
			return w.Unlock(ctx, c, revision.LockCommit, "second")
		}},
		{"ImportCertificate", admin.OpCertificates, func(ctx context.Context, w *world, c Caller) error {
			return w.ImportCertificate(ctx, c, ImportRequest{Name: "x", Kind: ImportCertificate})
		}},
		{"GenerateCertificate", admin.OpCertificates, func(ctx context.Context, w *world, c Caller) error {
			return w.GenerateCertificate(ctx, c, GenerateRequest{Name: "x"})
		}},
		{"RenewCertificate", admin.OpCertificates, func(ctx context.Context, w *world, c Caller) error {
			return w.RenewCertificate(ctx, c, "x", 10)
		}},
		{"RevokeCertificate", admin.OpCertificates, func(ctx context.Context, w *world, c Caller) error {
			return w.RevokeCertificate(ctx, c, "x")
		}},
		{"TestKey", admin.OpTestKey, func(ctx context.Context, w *world, c Caller) error { return w.TestKey(ctx, c, "x") }},
		{"EndSession", admin.OpClearSessions, func(ctx context.Context, w *world, c Caller) error { return w.EndSession(ctx, c, 1) }},
		{"ClearSessions", admin.OpClearSessions, func(ctx context.Context, w *world, c Caller) error {
			ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			defer cancel()
			return second(w.ClearSessions(ctx, c, nil))
		}},
		{"ResetHits", admin.OpResetCounters, func(ctx context.Context, w *world, c Caller) error { return second(w.ResetHits(ctx, c)) }},
		{"ChangeMasterKey", admin.OpMasterKey, func(ctx context.Context, w *world, c Caller) error {
			return second(w.ChangeMasterKey(ctx, c, vault.Change{New: []byte("short")}, nil))
		}},
		{"RecoverMasterKey", admin.OpMasterKey, func(ctx context.Context, w *world, c Caller) error {
			return second(w.RecoverMasterKey(ctx, c, []byte("short"), nil))
		}},
		{"RotateWrappingKey", admin.OpMasterKey, func(ctx context.Context, w *world, c Caller) error {
			return second(w.RotateWrappingKey(ctx, c, nil))
		}},
		{"WrappingKeys", admin.OpReadSystem, func(ctx context.Context, w *world, c Caller) error {
			_, _, err := w.WrappingKeys(ctx, c)
			return err
		}},
	}
}

// TestMatrix: each method is open to the roles that the table of permissions
// names, and refused to the others, who are written down.
func TestMatrix(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	seen, refusals := map[admin.Operation]bool{}, map[string]int{}
	for _, call := range calls(t) {
		seen[call.op] = true
		for _, name := range []string{"reader", "device", "root"} { // what root does, nobody else could do again
			role := people[name]
			running, _ := w.parts.Revisions.Running()
			must(t, w.parts.Revisions.Replace(t.Context(), running))
			err := call.do(t.Context(), w, as(name))
			denied := CodeOf(err) == CodeDenied
			if denied == role.May(call.op) || CodeOf(err) == CodeUnauthorized {
				t.Errorf("%s as %s, which needs %s: %v", call.name, role, call.op, err)
			}
			if denied {
				refusals[name]++
			}
		}
		// Who is gone may nothing, whatever role the caller once had.
		gone := Caller{Identity: admin.Identity{Name: "gone", Role: admin.Superuser}, Via: API}
		if err := call.do(t.Context(), w, gone); CodeOf(err) != CodeUnauthorized {
			t.Errorf("%s as one who is gone: %v", call.name, err)
		}
	}
	for name, n := range refusals {
		entries := 0
		w.logged(logstore.System, func(e *logstore.Entry) bool {
			if says("operation-refused", name+" (cli, from 192.0.2.7) refused: the role")(e) {
				entries++
			}
			return entries == n
		})
	}
	for _, p := range admin.Permissions() {
		if !seen[p.Operation] && !unused[p.Operation] {
			t.Errorf("no method needs %s", p.Operation)
		}
	}
}

// unused are the operations that are not methods of a Manager with a caller.
var unused = map[admin.Operation]bool{admin.OpBackup: true, admin.OpStopJob: true}

// TestDemotion: a session follows the running configuration.
func TestDemotion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	device := as("device")
	must(t, w.setHostname(device, "gw1"))
	roles := userPath("device") + "/permissions/role-based"
	must(t, w.Change(t.Context(), as("root"),
		config.Edit{Op: config.OpDelete, Path: roles}, set(t, roles+"/superreader", "yes")))
	w.commit(as("root"), CommitRequest{})
	wantCode(t, "a change by who only reads now", w.setHostname(device, "gw2"), CodeDenied)
	must(t, w.Change(t.Context(), as("root"), config.Edit{Op: config.OpDelete, Path: userPath("device")}))
	w.commit(as("root"), CommitRequest{})
	_, err := w.SystemInfo(t.Context(), device)
	wantCode(t, "looking by who is gone", err, CodeUnauthorized)
}

// TestAdministratorsByAnyPath: a device administrator changes no administrator,
// by whichever way.
func TestAdministratorsByAnyPath(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	hash, err := hashed()
	must(t, err)
	whole, err := w.ExportConfig(ctx, as("root"), Running)
	must(t, err)
	less := fmt.Sprintf("<config><mgt-config><users><entry name=\"device\"><phash>%s</phash><permissions><role-based><superuser>yes</superuser></role-based></permissions></entry></users></mgt-config></config>", hash)
	users, err := config.ParseFragment([]byte("<users><entry name=\"device\"><permissions><role-based><superuser>yes</superuser></role-based></permissions></entry></users>"))
	must(t, err)
	for what, do := range map[string]func(Caller) error{
		"set of the whole": func(c Caller) error {
			return w.Change(ctx, c, config.Edit{Op: config.OpSet, Path: "/config/mgt-config", Elements: users})
		},
		"edit of the list": func(c Caller) error {
			return w.Change(ctx, c, config.Edit{Op: config.OpEdit, Path: "/config/mgt-config/users", Elements: users})
		},
		"delete of it": func(c Caller) error {
			return w.Change(ctx, c, config.Edit{Op: config.OpDelete, Path: "/config/mgt-config"})
		},
		"rename": func(c Caller) error {
			return w.Change(ctx, c, config.Edit{Op: config.OpRename, Path: userPath("root"), NewName: "boot"})
		},
		"a file": func(c Caller) error { return w.LoadConfig(ctx, c, []byte(less)) },
		"the second of two edits": func(c Caller) error {
			return w.Change(ctx, c, set(t, hostnamePath, "x"), config.Edit{Op: config.OpDelete, Path: userPath("root")})
		},
	} {
		wantCode(t, what, do(as("device")), CodeDenied)
	}
	if got := w.hostname(Candidate); got != "" {
		t.Errorf("of two edits the first was made: %q", got)
	}
	must(t, w.LoadConfig(ctx, as("device"), whole)) // which has the same administrators
}
