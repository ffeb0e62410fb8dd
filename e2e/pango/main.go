// Command pango-peer manages a gateway by pango, a client of the firewalls whose
// API the gateway has. It is a module of its own, so that the product does not
// depend on that; the end-to-end tests build and run it.
//
//	pango-peer [-address HOST:PORT] STEP [ARGUMENT...]
//
// The environment variable PANGO_PASSWORD has the password of admin. Each step
// is one of a story that the test tells, with traffic in between. What pango
// reads back must be what was set: a difference is an error.
package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/PaloAltoNetworks/pango"
	"github.com/PaloAltoNetworks/pango/commit"
	"github.com/PaloAltoNetworks/pango/dev/certificate"
	"github.com/PaloAltoNetworks/pango/poli/decryption"
	"github.com/PaloAltoNetworks/pango/util"
)

func main() {
	address := flag.String("address", "127.0.0.1:4443", "the gateway's API")
	flag.Parse()
	if err := run(*address, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "pango-peer:", err)
		os.Exit(1)
	}
}

var steps = map[string]func(*pango.Firewall, []string) error{
	"info": info, "certificate": importCertificate, "no-decrypt": noDecrypt, "inbound": inbound, "delete": deleteRules,
	"everything-else": everythingElse,
}

func run(address string, args []string) error {
	if len(args) == 0 || steps[args[0]] == nil {
		return errors.New("expected a step: info, certificate, no-decrypt, inbound, delete or everything-else")
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return err
	}
	fw := &pango.Firewall{Client: pango.Client{
		Hostname: host, Port: uint(number), Username: "admin", Password: os.Getenv("PANGO_PASSWORD"), Timeout: 60, Logging: pango.LogQuiet,
	}}
	if err := fw.Initialize(); err != nil {
		return fmt.Errorf("initialize: %w", err)
	}
	return steps[args[0]](fw, args[1:])
}

func equal(what string, got, want any) error {
	if !reflect.DeepEqual(got, want) {
		return fmt.Errorf("%s: got %+v, want %+v", what, got, want)
	}
	return nil
}

// do commits and waits for the job, as pango does.
func do(fw *pango.Firewall, description string) error {
	job, _, err := fw.Commit(commit.FirewallCommit{Description: description}, "", nil)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if job == 0 {
		return errors.New("commit: no job")
	}
	return fw.WaitForJob(job, 100*time.Millisecond, nil, nil)
}

func info(fw *pango.Firewall, _ []string) error {
	for _, field := range []string{"hostname", "ip-address", "sw-version", "model", "serial", "app-version", "multi-vsys", "uptime", "moongate-version"} {
		if fw.SystemInfo[field] == "" {
			return fmt.Errorf("system info has no %s: %v", field, fw.SystemInfo)
		}
	}
	if now, err := fw.Clock(); err != nil || time.Since(now).Abs() > time.Minute {
		return fmt.Errorf("the clock: %v, %v", now, err)
	}
	return equal("version", fw.Versioning().String(), "11.1.0")
}

// importCertificate imports a certificate with its key, from the files named,
// reads it back, edits it, and lists it.
func importCertificate(fw *pango.Firewall, args []string) error {
	name := args[0]
	certPEM, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	keyPEM, err := os.ReadFile(args[2])
	if err != nil {
		return err
	}
	store := fw.Device.Certificate
	before, err := store.GetList("shared")
	if err != nil {
		return fmt.Errorf("listing: %w", err)
	}
	pem := certificate.Pem{
		Name: name, Certificate: string(certPEM), CertificateFilename: "c.pem", PrivateKey: string(keyPEM), PrivateKeyFilename: "k.pem", Passphrase: "",
	}
	if err := store.ImportPem("shared", 0, pem); err != nil {
		return fmt.Errorf("importing: %w", err)
	}
	after, err := store.GetList("shared")
	if err != nil {
		return fmt.Errorf("listing: %w", err)
	}
	if err := equal("certificates", after, append(before, name)); err != nil {
		return err
	}
	entry, err := store.Get("shared", name)
	if err != nil {
		return fmt.Errorf("reading: %w", err)
	}
	if entry.PublicKey == "" || entry.NotValidAfter == "" || entry.CommonName == "" || entry.ExpiryEpoch == "" || entry.Status != certificate.StatusValid {
		return fmt.Errorf("an entry is not whole: %+v", entry)
	}
	// What was read is written back: its key, which is not shown, stays.
	if err := store.Edit("shared", entry); err != nil {
		return fmt.Errorf("editing: %w", err)
	}
	again, err := store.Get("shared", name)
	if err != nil {
		return fmt.Errorf("reading again: %w", err)
	}
	if err := equal("the entry", again, entry); err != nil {
		return err
	}
	_, exported, err := store.Export("pem", "shared", name, "", false, 0)
	if err != nil {
		return fmt.Errorf("exporting: %w", err)
	}
	if len(exported) == 0 {
		return errors.New("the exported file is empty")
	}
	if _, err := store.Get("shared", "nobody"); err == nil {
		return errors.New("a certificate that is not there was read")
	}
	return do(fw, "a certificate of pango's")
}

func rule(name string) decryption.Entry {
	anything := []string{"any"}
	return decryption.Entry{
		Name: name, SourceZones: anything, DestinationZones: anything, SourceAddresses: anything, DestinationAddresses: anything,
		SourceUsers: anything, Services: anything, UrlCategories: anything,
		Action: decryption.ActionNoDecrypt, DecryptionType: decryption.DecryptionTypeSslForwardProxy,
		LogFailedTlsHandshakes: true,
	}
}

// noDecrypt puts rules before all others: servers of an address keep their
// certificates.
func noDecrypt(fw *pango.Firewall, args []string) error {
	rules := fw.Policies.Decryption
	before, err := rules.GetList("")
	if err != nil {
		return fmt.Errorf("listing: %w", err)
	}
	first, second := rule("pango-first"), rule("pango-second")
	first.DestinationAddresses = []string{"192.0.2.0/24"}
	second.DestinationAddresses = []string{"198.51.100.0/24"}
	if err := rules.Set("", first, second); err != nil {
		return fmt.Errorf("setting: %w", err)
	}
	second.DestinationAddresses = []string{args[0]}
	second.Description = "edited"
	if err := rules.Edit("", second); err != nil {
		return fmt.Errorf("editing: %w", err)
	}
	// To the top, in the other order.
	if err := rules.MoveGroup("", util.MoveTop, "", second, first); err != nil {
		return fmt.Errorf("moving: %w", err)
	}
	list, err := rules.GetList("")
	if err != nil {
		return fmt.Errorf("listing: %w", err)
	}
	if err := equal("rules", list, append([]string{"pango-second", "pango-first"}, before...)); err != nil {
		return err
	}
	got, err := rules.Get("", "pango-second")
	if err != nil {
		return fmt.Errorf("reading: %w", err)
	}
	if !decryption.RulesMatch(got, second) {
		return fmt.Errorf("the rule is %+v, and %+v was set", got, second)
	}
	all, err := rules.GetAll("")
	if err != nil || len(all) != len(list) {
		return fmt.Errorf("all rules: %d, %v", len(all), err)
	}
	if shown, err := rules.ShowList(""); err != nil || !reflect.DeepEqual(shown, before) {
		return fmt.Errorf("the running rules before a commit: %v, %v", shown, err)
	}
	if err := do(fw, "rules of pango's"); err != nil {
		return err
	}
	shown, err := rules.ShowList("")
	if err != nil {
		return fmt.Errorf("listing the running rules: %w", err)
	}
	return equal("running rules", shown, list)
}

// inbound has an inbound rule present another certificate: that rule is read,
// changed and written back. Then one more is made.
func inbound(fw *pango.Firewall, args []string) error {
	rules := fw.Policies.Decryption
	name, cert := args[0], args[1]
	entry, err := rules.Get("", name)
	if err != nil {
		return fmt.Errorf("reading: %w", err)
	}
	if entry.DecryptionType != decryption.DecryptionTypeSslInboundInspection || len(entry.SslCertificates) == 0 {
		return fmt.Errorf("no inbound rule: %+v", entry)
	}
	entry.SslCertificates = []string{cert}
	if err := rules.Edit("", entry); err != nil {
		return fmt.Errorf("editing: %w", err)
	}
	another := rule("pango-inbound")
	another.Action, another.DecryptionType = decryption.ActionDecrypt, decryption.DecryptionTypeSslInboundInspection
	another.SslCertificates = []string{cert}
	another.DestinationAddresses = []string{"192.0.2.99"}
	if err := rules.Set("", another); err != nil {
		return fmt.Errorf("setting: %w", err)
	}
	got, err := rules.Get("", another.Name)
	if err != nil {
		return fmt.Errorf("reading: %w", err)
	}
	if !decryption.RulesMatch(got, another) || !slices.Equal(got.SslCertificates, another.SslCertificates) {
		return fmt.Errorf("the rule is %+v, and %+v was set", got, another)
	}
	return do(fw, "an inbound rule of pango's")
}

// deleteRules removes what the steps before made.
func deleteRules(fw *pango.Firewall, _ []string) error {
	rules := fw.Policies.Decryption
	if err := rules.Delete("", "pango-first", "pango-second", "pango-nobody", "pango-inbound"); err != nil {
		return fmt.Errorf("deleting: %w", err)
	}
	list, err := rules.GetList("")
	if err != nil {
		return err
	}
	for _, name := range list {
		if len(name) > 6 && name[:6] == "pango-" {
			return fmt.Errorf("%s is still there", name)
		}
	}
	return do(fw, "without pango's rules")
}

// everythingElse has what else pango asks of a gateway.
func everythingElse(fw *pango.Firewall, _ []string) error {
	if err := fw.LockConfig("", "hands off"); err != nil {
		return fmt.Errorf("locking the configuration: %w", err)
	}
	locks, err := fw.ConfigLocks("")
	if err != nil || len(locks) != 1 || locks[0].Owner != "admin" || locks[0].Comment.Text != "hands off" {
		return fmt.Errorf("configuration locks: %+v, %v", locks, err)
	}
	if err := fw.UnlockConfig(""); err != nil {
		return fmt.Errorf("unlocking the configuration: %w", err)
	}
	if err := fw.LockCommits("", ""); err != nil {
		return fmt.Errorf("locking commits: %w", err)
	}
	if locks, err = fw.CommitLocks(""); err != nil || len(locks) != 1 {
		return fmt.Errorf("commit locks: %+v, %v", locks, err)
	}
	if err := fw.UnlockCommits("", ""); err != nil {
		return fmt.Errorf("unlocking commits: %w", err)
	}

	fw.PrepareMultiConfigure(2)
	if err := fw.Policies.Decryption.Set("", rule("pango-multi")); err != nil {
		return err
	}
	if err := fw.Policies.Decryption.Delete("", "pango-multi"); err != nil {
		return err
	}
	answer, err := fw.SendMultiConfigure(true)
	if err != nil || !answer.Ok() || len(answer.Results) != 2 {
		return fmt.Errorf("multi-config: %+v, %v", answer, err)
	}

	if _, err := fw.ValidateConfig(true, 100*time.Millisecond); err != nil {
		return fmt.Errorf("validating: %w", err)
	}
	if err := fw.Policies.Decryption.Set("", rule("pango-lost")); err != nil {
		return err
	}
	if err := fw.RevertToRunningConfig(); err != nil {
		return fmt.Errorf("reverting: %w", err)
	}
	if _, err := fw.Policies.Decryption.Get("", "pango-lost"); err == nil {
		return errors.New("reverting left a rule")
	}
	for _, which := range []string{"running", "candidate"} {
		if err := fw.RetrievePanosConfig(which); err != nil {
			return fmt.Errorf("retrieving the %s configuration: %w", which, err)
		}
		if list, err := fw.Policies.Decryption.AllFromPanosConfig(""); err != nil || len(list) == 0 {
			return fmt.Errorf("rules of the %s configuration: %v, %v", which, list, err)
		}
	}
	hits, err := fw.Policies.Decryption.HitCount("vsys1", nil)
	if err != nil || len(hits) == 0 {
		return fmt.Errorf("hit counts: %v, %v", hits, err)
	}
	hash, err := fw.RequestPasswordHash("a long password")
	if err != nil || hash == "" {
		return fmt.Errorf("hash of a password: %q, %v", hash, err)
	}
	if job, _, err := fw.Commit(commit.FirewallCommit{}, "", nil); err != nil || job != 0 {
		return fmt.Errorf("a commit without changes: job %d, %v", job, err)
	}
	var enqueued util.JobResponse
	if _, err := fw.Log("config", "", "( cmd eq 'commit' )", "backward", 5, 0, nil, &enqueued); err != nil {
		return fmt.Errorf("asking a log: %w", err)
	}
	if _, err := fw.WaitForLogs(enqueued.Id, 50*time.Millisecond, 0, nil); err != nil {
		return fmt.Errorf("reading a log: %w", err)
	}
	return nil
}
