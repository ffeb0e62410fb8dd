package main

import (
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"moongate/client"
)

// What people read is written here. The rules:
//
//   - Results go to standard output; prompts, notes, warnings and errors to
//     standard error.
//   - An error says at which step what went wrong, then on a line of its own
//     what to do: a command, an option or a file, by name.
//   - A choice that was made for somebody is named.
//   - No blame, no exclamation mark, no "failed to", never a secret.
//   - Words that came from the HSM are shown so that they cannot drive a
//     terminal.

func (c *console) printf(format string, args ...any) { fmt.Fprintf(c.out, format, args...) }
func (c *console) errorf(format string, args ...any) { fmt.Fprintf(c.err, format, args...) }

func (c *console) note(format string, args ...any) { c.errorf("note: "+format+"\n", args...) }

func (c *console) warn(format string, args ...any) { c.errorf("warning: "+format+"\n", args...) }

// printJSON prints what a script reads.
func (c *console) printJSON(v any) error {
	enc := json.NewEncoder(c.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// failure prints an error: the step, what happened, what to do.
func (c *console) failure(who string, err error) {
	what, fix := explain(err)
	c.errorf("%s: %s\n", who, what)
	if fix != "" {
		c.errorf("  what to do: %s\n", fix)
	}
}

func explain(err error) (what, fix string) {
	if e, is := errors.AsType[*client.Error](err); is {
		// The client's words for the stage and the fix give way to ours.
		what = strings.Replace(err.Error(), e.Error(), stageWords(e.Stage)+e.Err.Error(), 1)
		return printable(what), fixFor(e)
	}
	if e, is := errors.AsType[*fixError](err); is {
		return printable(err.Error()), e.fix
	}
	return printable(err.Error()), ""
}

// fixFor is the client's advice, in terms of this program's commands where it
// has some.
func fixFor(e *client.Error) string {
	switch client.CodeOf(e.Err) {
	case client.ErrNotRegistered:
		return "on the HSM, run the `client register` line that `cmu client init` printed"
	case client.ErrNotAssigned:
		return "on the HSM, run `client assignPartition`; or name the right one with -partition="
	case client.ErrUserType:
		return "log in as the Crypto Officer: leave -role=cu out"
	}
	if _, is := errors.AsType[*client.PinError](e.Err); is {
		return "compare the fingerprint with `ntls show` on the HSM; if it is the HSM's new certificate, `cmu server add -force` with its server.pem; otherwise this is another server"
	}
	return e.Fix
}

func stageWords(s client.Stage) string {
	switch s {
	case client.StageName:
		return "resolving the HSM's name: "
	case client.StageTCP:
		return "connecting to the HSM: "
	case client.StageTLS:
		return "recognising the HSM: "
	case client.StageRegistered:
		return "being admitted by the HSM: "
	case client.StageAssigned:
		return "opening the partition: "
	case client.StageLogin:
		return "logging in: "
	case client.StageKey:
		return "using the key: "
	}
	return "" // a request: what was asked stands before
}

// suggestion ends an error about a word that is not known.
func suggestion(prefix, near, help string) string {
	if near != "" {
		return fmt.Sprintf("did you mean %s%s?", prefix, near)
	}
	return fmt.Sprintf("`%s` lists them", help)
}

// shown shows a name from elsewhere: quoted where it holds what is not printed,
// so that a label can neither break a line nor move the cursor.
func shown(s string) string {
	if strings.Contains(s, "\n") {
		return strconv.Quote(s)
	}
	return printable(s)
}

// printable is shown for texts of several lines.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

const (
	promptPassword = "Please enter password for token in slot 0 : "
	promptFile     = "Please enter the name of the output file: "
	promptProceed  = "Type 'proceed' to %s, or 'quit' to quit now.\n> "
	promptAddress  = "Please enter the IP address or host name that the HSM sees this host come from: "
	promptServer   = "Please enter the HSM's address: "
	promptServerPE = "Please enter the file with the HSM's certificate (server.pem): "
	promptCN       = "Please enter the common name (CN): "
	promptCert     = "Please enter the handle of the certificate to export: "
	promptKey      = "Please enter the handle of the key to export: "
	promptInput    = "Please enter the name of the input file: "
	promptObject   = "Please enter the handle of the object: "
	promptDelete   = "Please enter the handle of the object to delete: "
)

const warnPassword = "-password can be seen by other users of this machine (ps); use -passwordFile, or answer the prompt"

func overview() string {
	var b strings.Builder
	b.WriteString(`cmu makes and manages keys and certificates on a partition of a network HSM.

Usage:
  cmu COMMAND [-name=value]...

`)
	for _, c := range commands() {
		fmt.Fprintf(&b, "  %-22s %s\n", c.name, c.summary)
	}
	b.WriteString(`  help                   this, or one command's options: cmu help gen
  version                the version of this program

Options are -name=value or -name value; their case does not matter. What is
missing and has no default is asked for; without a terminal the answers are read
from standard input, a line each. To begin: cmu client init.
`)
	return b.String()
}

func (c *command) usage() string {
	var b strings.Builder
	fmt.Fprintf(&b, "cmu %s: %s.\n", c.name, c.summary)
	if c.detail != "" {
		fmt.Fprintf(&b, "\n%s\n", c.detail)
	}
	b.WriteString("\n")
	for _, o := range c.options {
		form := "-" + o.name
		if o.value != "" {
			form += "=" + o.value
		}
		fmt.Fprintf(&b, "  %-24s %s\n", form, o.help)
	}
	if len(c.aliases) > 0 {
		fmt.Fprintf(&b, "\nThe same command: %s.\n", strings.Join(c.aliases, ", "))
	}
	b.WriteString("\nThe client configuration is -config, or $MOONGATE_CLIENT_CONF, or\n~/.config/moongate/client.toml, or /etc/moongate/client.toml.\n")
	return b.String()
}

// attributeNames are those of distinguished names (RFC 4514, section 3, and
// emailAddress).
var attributeNames = map[string]string{
	"2.5.4.3": "CN", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.10": "O", "2.5.4.11": "OU",
	"2.5.4.5": "serialNumber", "2.5.4.9": "street", "1.2.840.113549.1.9.1": "emailAddress",
}

// nameWords shows a distinguished name in the order in which it was written.
func nameWords(name pkix.Name) string {
	var parts []string
	for _, a := range name.Names {
		key, known := attributeNames[a.Type.String()]
		if !known {
			key = a.Type.String()
		}
		parts = append(parts, fmt.Sprintf("%s=%v", key, a.Value))
	}
	return strings.Join(parts, ", ")
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02") }

// nextSteps is what `cmu client init` ends with.
func nextSteps(c clientMade, serverKnown bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, `
Client certificate:  %s
  SHA-256:           %s
Its key:             %s
Configuration:       %s

Next:
  - Copy the certificate to the HSM, and run there, in the directory with it:
      %s
      client assignPartition -c %s -p PARTITION
    (on the HSM's own host each of them after the word moongate-hsm)
`, c.Certificate, c.Fingerprint, c.Key, c.Config, c.Register, c.Name)
	if !serverKnown {
		b.WriteString("  - Copy the HSM's server.pem to this host, and run here:\n      cmu server add -address=HSM -certificate=server.pem\n")
	}
	b.WriteString("  - Check the whole way, here:\n      cmu verify\n")
	return b.String()
}
