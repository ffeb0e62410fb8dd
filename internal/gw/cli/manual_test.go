package cli

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"moongate/internal/gw/ops"
)

var update = flag.Bool("update", false, "write docs/cli.md")

const manualPath = "../../../docs/cli.md"

// TestManual holds the manual to the tables of commands. go generate writes it.
func TestManual(t *testing.T) {
	want := manual()
	if *update {
		if err := os.WriteFile(manualPath, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(manualPath)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docs/cli.md is not what the tables say; run go generate ./internal/gw/cli (-want +got):\n%s", diff)
	}
}

const preface = `# The gateway's command line

<!-- Written from the tables of commands by go generate ./internal/gw/cli. Do not edit. -->

    ssh -p 2222 admin@GATEWAY                      a prompt
    ssh -p 2222 admin@GATEWAY 'show system info'   one command
    ssh -p 2222 admin@GATEWAY < script             a command on each line

The address and the port are ` + "`deviceconfig/setting/management`" + ` of the [configuration](configuration.md). The exit
status is that of the last command: 0, or 1 where it failed, with lines that begin with ` + "`Error: `" + `.

There are two modes. The operational mode, ` + "`admin@gw>`" + `, looks at the gateway and has it do things. The configuration
mode, ` + "`admin@gw#`" + ` with a line ` + "`[edit]`" + ` above it, changes the candidate configuration; nothing of it acts before
` + "`commit`" + `.

Tab completes a word, ? lists what may follow, with help; Up, Down and Ctrl-R find earlier lines; Ctrl-C abandons a command.
Long output is shown a screen at a time (space, Enter, q) until ` + "`set cli pager off`" + `. A word within double quotation marks
may hold spaces, and ` + "`\\n` `\\t` `\\\"` `\\\\`" + `. Output goes through filters:

| filter | what it does |
|---|---|
`

// manual writes the page.
func manual() string {
	var b strings.Builder
	b.WriteString(preface)
	for _, f := range filterHelp {
		fmt.Fprintf(&b, "| `\\| %s` | %s |\n", f.name, f.help)
	}
	b.WriteString("\nA secret that a command needs is asked for without showing it, also where it is not on the line; where there is no\nterminal, standard input answers. A command that ends connections says what it ends and asks; `y` on standard input answers.\n")
	b.WriteString("\n## The session\n\n| command | |\n|---|---|\n| `configure` | go to the configuration mode |\n| `exit`, `quit` | end the session; in the configuration mode, go up or leave it |\n| `help` | what the mode has |\n")
	for _, known := range settings {
		values := strings.Join(known.words, "\\|")
		if values == "" {
			values = "..."
		}
		fmt.Fprintf(&b, "| `set cli %s %s` | %s |\n", known.name, values, known.help)
	}
	b.WriteString("\n## The configuration mode\n\nA path is the words that lead to an element, without the levels of which there is one each: `rulebase decryption rules NAME action`\nis below `vsys1`, `deviceconfig system hostname` below `localhost.localdomain`, `shared certificate NAME` below `shared`.\nAfter a value, `set` goes on with its siblings; a list takes one value or several in brackets, `source [ 10.0.0.0/8 192.0.2.1 ]`.\n`set mgt-config users NAME password` asks for the password; the configuration keeps its hash.\n\n| command | |\n|---|---|\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", strings.ReplaceAll(strings.TrimSpace(c.name+" "+c.usage), "|", "\\|"), c.help)
	}
	b.WriteString("\n## The operational mode\n\nThe same commands are sent to the [XML API](xml-api.md) as elements. A word may be shortened while it is the only one.\n")
	for _, c := range ops.Commands() {
		usage, rest, _ := strings.Cut(c.Usage(), "\n\n")
		help, arguments, _ := strings.Cut(rest, "\n")
		fmt.Fprintf(&b, "\n### `%s`\n\n%s.\n", c.Words, help)
		if len(c.Args) > 0 {
			fmt.Fprintf(&b, "\n```\n%s\n%s```\n", usage, arguments)
		}
	}
	return b.String()
}
