package world_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"moongate/client"
	"moongate/e2e/world"
)

func TestHSMSurvivesAKill(t *testing.T) {
	t.Parallel()
	w := world.T(t)
	hsm := w.HSM()
	registered := w.Register(hsm, "gw1", w.Partition(hsm, "p1"))
	config, err := registered.Config(client.RoleCryptoOfficer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.Dial(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.GenerateAES(t.Context(), 32, client.NewTemplate(client.TextAttr(client.AttrLabel, "k"))); err != nil {
		t.Fatal(err)
	}
	addr, pid := hsm.Addr, hsm.PID()
	hsm.Kill9()
	if err := hsm.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if hsm.Addr != addr || hsm.PID() == pid {
		t.Errorf("restarted at %s as process %d, was at %s as %d", hsm.Addr, hsm.PID(), addr, pid)
	}
	// The same client, by itself.
	found, err := c.Find(t.Context(), client.NewTemplate(client.TextAttr(client.AttrLabel, "k")))
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 {
		t.Errorf("%d keys after the restart, made 1", len(found))
	}
	records, err := hsm.Audit(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(records, func(r world.AuditRecord) bool {
		return r.Action == "key.generate" && r.Client == "gw1" && r.Partition == "p1" && r.Outcome == "ok"
	}) {
		t.Errorf("the audit log does not have the key: %+v", records)
	}
	if log := hsm.Log(); strings.Count(log, "listening "+addr) != 2 {
		t.Errorf("the log is not of both processes:\n%s", log)
	}
	if err := hsm.Restart(t.Context()); err == nil {
		t.Error("a running HSM was started again")
	}
	if err := hsm.Stop(); err != nil {
		t.Error(err)
	}
}

func TestShellSaysWhatFailed(t *testing.T) {
	t.Parallel()
	hsm := world.T(t).HSM()
	out, err := hsm.Shell(t.Context(), "client list", "client show -c nobody", "partition list")
	if err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("error %v, expected that of the second command", err)
	}
	if strings.Contains(out, "Partition ") {
		t.Errorf("it went on after a failure:\n%s", out)
	}
}

func TestStartHSMFailsInAnotherOnesDirectory(t *testing.T) {
	t.Parallel()
	dir := world.T(t).Dir()
	if err := os.Mkdir(dir+"/clients", 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := world.StartHSM(t.Context(), dir); err == nil {
		t.Error("an HSM was made where there was something")
	}
}
