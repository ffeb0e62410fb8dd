package e2e

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"moongate/e2e/hsmkeys"
	"moongate/e2e/pki"
	"moongate/e2e/world"
)

// masterKeySteps encrypt the master key by a key on the HSMs, and rotate that.
var masterKeySteps = []guideStep{
	{"G9.5", (*guide).everySecret},
	{"G9.1", (*guide).changeMasterKey},
	{"G10.2", (*guide).rotateForLater},
	{"G9.2", (*guide).storeOnHSM},
	{"G9.3", (*guide).lifeTime},
	{"G9.4", (*guide).reminder},
	{"G9.6", (*guide).synchronizeMasterKey},
	{"G10.1", (*guide).rotate},
	{"G10.3", (*guide).oldKeyIsKept},
}

// softwareKey is a certificate with its key in the configuration.
const softwareKey = "in-software"

// everySecret imports a key, and finds it nowhere in the clear.
func (g *guide) everySecret() {
	pair, err := newCA(g.t).Server("ec", []string{"software.example"})
	must(g.t, err)
	certificate, key, err := pki.WriteFiles(g.desk().dir, softwareKey, pair)
	must(g.t, err)
	g.desk().run("scp "+filepath.Base(certificate)+" admin@{gateway}:"+softwareKey+".pem", "")
	g.desk().run("scp "+filepath.Base(key)+" admin@{gateway}:"+softwareKey+".key", "")
	g.gatewayRuns(0, "", "request certificate import certificate-name "+softwareKey+" file "+softwareKey+".pem format pem")
	g.gatewayRuns(0, "", "request certificate import certificate-name "+softwareKey+" file "+softwareKey+".key part private-key")
	g.gatewayRuns(0, "", "delete file "+softwareKey+".key")
	g.commitCandidate()
	text, err := os.ReadFile(key)
	must(g.t, err)
	block, _ := pem.Decode(text)
	g.software, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	must(g.t, err)
	g.hunt().tree(g.firewall.Dir)
	g.desk().run("scp admin@{gateway}:running-config.xml .", "")
	if text, err := os.ReadFile(g.desk().path("running-config.xml")); err != nil || !regexp.MustCompile(`(?s)<entry name="`+softwareKey+`">.*<private-key>-AQ==`).Match(text) {
		g.t.Errorf("the private key is not sealed in the configuration: %v", err)
	}
}

func (g *guide) setMaster(key string) { g.master, g.masters = key, append(g.masters, key) }

// masterWords are two answers to a prompt that asks twice.
func masterWords(key string) string { return key + "\n" + key + "\n" }

func (g *guide) changeMasterKey() {
	g.setMaster("sixteen-letters!")
	if out := g.gatewayRuns(1, masterWords("too short"), "request master-key lifetime 24 new-master-key"); !strings.Contains(out, "16") {
		g.t.Error("a master key that is too short is not refused with the length")
	}
	if out := g.gatewayRuns(1, g.master+"\nanother-one-again\n", "request master-key lifetime 24 new-master-key"); strings.Contains(out, "successfully") {
		g.t.Error("two different keys were taken")
	}
	// The first one was made at random: the current key may stay empty.
	g.gatewayRuns(0, masterWords(g.master), "request master-key lifetime 24 new-master-key")
	next := rand.Text()
	if out := g.gatewayRuns(1, masterWords(next)+"not the current key\n", "request master-key lifetime 24 current-master-key"); !strings.Contains(out, "current") {
		g.t.Error("a wrong current key is not named")
	}
	g.gatewayRuns(0, masterWords(next)+g.master+"\n", "request master-key lifetime 24 current-master-key")
	g.setMaster(next)
	g.readable()
}

// readable checks that what is sealed in the configuration can be opened: the
// key signs, as a commit asks of it.
func (g *guide) readable() {
	g.t.Helper()
	if out := g.gatewayCLI().run(0, "", "show certificate name "+softwareKey); !strings.Contains(out, "key: software") {
		g.t.Errorf("the software key is not to be had:\n%s", out)
	}
}

func (g *guide) rotateForLater() {
	out := g.gatewayRuns(0, g.co(), g.rotation()+" password")
	if !strings.Contains(out, "for when it is") {
		g.t.Error("it is not told that the key is for later")
	}
	if shown := g.gatewayShows("show system masterkey-properties"); !strings.Contains(shown, "on-hsm: no") {
		g.t.Error("the master key is on the HSM")
	}
}

// rotation is the guide's command.
func (g *guide) rotation() string { return "request hsm mkey-wrapping-key-rotation" }

func (g *guide) storeOnHSM() {
	g.gatewayRuns(0, g.master+"\n", "request master-key on-hsm yes current-master-key")
	if shown := g.gatewayShows("show system masterkey-properties"); !strings.Contains(shown, "on-hsm: yes") {
		g.t.Error("the master key is not on the HSM")
	}
	g.hunt().tree(g.firewall.Dir)
	if _, err := os.Stat(filepath.Join(g.firewall.Dir, "vault", "master.key")); err == nil {
		g.t.Error("the master key is in a file, too")
	}
	g.readable()
}

func (g *guide) lifeTime() {
	g.refusesKey("request master-key lifetime 17521 new-master-key", "17520")
	g.refusesKey("request master-key lifetime 0 new-master-key", "17520")
	next := rand.Text()
	g.gatewayRuns(0, masterWords(next)+g.master+"\n", "request master-key lifetime 17520 current-master-key")
	g.setMaster(next)
	if shown := g.gatewayShows("show system masterkey-properties"); !regexp.MustCompile(`hours-to-expiry: 175(19|20)\n`).MatchString(shown) {
		g.t.Error("the life time of 730 days is not shown")
	}
	g.readable()
}

func (g *guide) refusesKey(command, words string) {
	g.t.Helper()
	if out := g.gatewayRuns(1, masterWords(rand.Text()), command); !strings.Contains(out, words) {
		g.t.Errorf("%s: refused without the words %q", command, words)
	}
}

func (g *guide) reminder() {
	g.refusesKey("request master-key lifetime 17520 reminder 8761 new-master-key", "8760")
	g.refusesKey("request master-key lifetime 24 reminder 25 new-master-key", "reminder")
	next := rand.Text()
	g.gatewayRuns(0, masterWords(next)+g.master+"\n", "request master-key lifetime 17520 reminder 8760 current-master-key")
	g.setMaster(next)
	if shown := g.gatewayShows("show system masterkey-properties"); !regexp.MustCompile(`hours-to-reminder: 87(59|60)\n`).MatchString(shown) {
		g.t.Error("the reminder is not shown")
	}
}

func (g *guide) synchronizeMasterKey() {
	g.job(g.co(), g.command())
	out := g.gatewayShows("show hsm mkey-wrapping-keys")
	if strings.Contains(out, "not on") || !strings.Contains(out, "moongate-mkey-") {
		g.t.Error("a member of the group lacks a wrapping key")
	}
	// Either HSM opens it.
	g.hsm.Kill9()
	g.gatewayIs("hsm1", "tcp", "port-refused")
	must(g.t, g.firewall.Close())
	must(g.t, g.firewall.Start(g.t.Context()))
	g.firewall.api = newXMLAPI(g.whole, g.firewall.Gateway)
	eventually(g.t, returnsWithin, func() error {
		out, err := g.firewall.api.op(g.t.Context(), "<show><system><masterkey-properties></masterkey-properties></system></show>")
		if err == nil && !strings.Contains(out, "<on-hsm>yes</on-hsm>") {
			g.t.Error("the master key is not on the HSM")
		}
		return err
	})
	g.readable()
	must(g.t, g.hsm.Restart(g.t.Context()))
	g.groupIs("hsm1", "hsm2")
}

var wrappingKeyForm = regexp.MustCompile(`moongate-mkey-[0-9]{8}-[0-9a-f]{16}`)

func (g *guide) rotate() {
	before := wrappingKeyForm.FindAllString(g.gatewayShows("show hsm mkey-wrapping-keys"), -1)
	out := g.gatewayRuns(0, g.co(), g.command()+" password")
	fresh := wrappingKeyForm.FindString(out)
	if fresh == "" || strings.Contains(strings.Join(before, " "), fresh) {
		g.t.Fatalf("the new wrapping key is %q, before there were %q", fresh, before)
	}
	if shown := g.gatewayShows("show system masterkey-properties"); !strings.Contains(shown, "wrapping-key: "+fresh) {
		g.t.Error("the master key is not wrapped by the new key")
	}
	g.wrapping = before
	g.readable()
}

func (g *guide) oldKeyIsKept() {
	out := g.gatewayShows("show hsm mkey-wrapping-keys")
	for _, old := range g.wrapping {
		if !strings.Contains(out, old) {
			g.t.Errorf("the old wrapping key %s is gone", old)
		}
	}
}

// hunt looks for every password and key that the guide has used so far.
func (g *guide) hunt() *hunt {
	g.t.Helper()
	h := newHunt(g.t)
	h.text("Crypto Officer's password", g.partition.CryptoOfficer)
	h.text("Crypto User's password", g.partition.CryptoUser)
	h.text("gateway administrator's password", g.firewall.Admin)
	h.text("API key", g.firewall.api.key)
	for i, hsm := range append([]*world.HSM{g.hsm}, g.others...) {
		h.text(fmt.Sprintf("password of hsm%d's administrator", i+1), hsm.Admin)
		h.text(fmt.Sprintf("password of hsm%d's Security Officer", i+1), hsm.Password)
	}
	for i, key := range g.masters {
		h.text(fmt.Sprintf("master key %d", i+1), key)
	}
	if g.software != nil {
		h.key(softwareKey, g.software)
	}
	return h
}

// nothingInTheClear looks back: no password and no key that was used is in the
// gateway's files, in what it printed, in its arguments or its environment. Its
// master key is on the HSM, so that docs/key-hierarchy.md names one thing alone
// that lies there in the clear: the device key, which nobody types.
func (g *guide) nothingInTheClear() {
	g.t.Helper()
	h := g.hunt()
	keys, err := hsmkeys.Read(g.hsm.Dir, g.t.TempDir(), g.partition.Label, []byte(g.partition.CryptoOfficer))
	must(g.t, err)
	for name, key := range keys {
		h.key(name, key)
	}
	h.tree(g.firewall.Dir)
	h.process(g.firewall.PID())
	h.bytes("the gateway's output", []byte(g.firewall.Log()))
	for _, hsm := range append([]*world.HSM{g.hsm}, g.others...) {
		h.process(hsm.PID())
		h.bytes("an HSM's output", []byte(hsm.Log()))
		h.tree(hsm.Dir)
	}
	h.none()
	if len(keys) < 5 || h.looked < 1<<20 {
		g.t.Errorf("%d keys of the HSM were looked for in %d bytes: that proves nothing", len(keys), h.looked)
	}
	g.t.Logf("%d private keys and %d texts looked for in %d kB: none is there", len(keys)+1, len(h.texts)/6, h.looked>>10)
}
