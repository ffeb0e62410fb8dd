// Package doctor looks at the machine that an HSM runs on, or is to run on, and
// says what is wrong with it, what that leads to, and what to do. It changes
// nothing, opens no key, and needs no HSM that works: that is when it is asked.
package doctor

import (
	"context"
	"fmt"

	"moongate/internal/hsm/daemon"
	"moongate/internal/hsm/settings"
)

// Level is how bad a finding is.
type Level string

const (
	OK   Level = "ok"
	Warn Level = "warn" // it works, and could be safer or better
	Fail Level = "fail" // the HSM does not serve, or will not
)

// Finding is what one check found.
type Finding struct {
	Check string `json:"check"`
	Level Level  `json:"level"`
	Found string `json:"found"`
	Fix   string `json:"fix,omitempty"` // what to do, where there is something
}

// Options say what to look at.
type Options struct {
	Dir    string // the HSM's data directory
	Config string // its configuration file; empty is the one in Dir, if any
}

// patient is what the checks look at.
type patient struct {
	files   daemon.Files
	config  string
	s       settings.Settings // the defaults where the file cannot be read
	running bool              // an HSM answers in Dir
}

// check is one thing to look at; it may find several.
type check struct {
	name string
	look func(context.Context, *patient) []Finding
}

// checks are in the order in which a person would go on: a later one may fail
// because of an earlier one.
var checks = []check{
	{"configuration", configuration},
	{"data directory", dataDirectory},
	{"file system", fileSystem},
	{"device root key", rootKey},
	{"store", storeFile},
	{"server certificate", certificate},
	{"ports", ports},
	{"accounts", accounts},
	{"audit log", auditLog},
	{"collector", collector},
	{"process", process},
	{"memory", memory},
	{"clock", clock},
	{"cryptography", cryptography},
}

// Examine runs every check.
func Examine(ctx context.Context, opts Options) []Finding {
	p := newPatient(opts)
	var all []Finding
	for _, c := range checks {
		for _, f := range c.look(ctx, p) {
			f.Check = c.name
			all = append(all, f)
		}
	}
	return all
}

// Healthy reports whether nothing failed.
func Healthy(findings []Finding) bool {
	for _, f := range findings {
		if f.Level == Fail {
			return false
		}
	}
	return true
}

func ok(format string, args ...any) Finding {
	return Finding{Level: OK, Found: fmt.Sprintf(format, args...)}
}

func warn(fix, format string, args ...any) Finding {
	return Finding{Level: Warn, Found: fmt.Sprintf(format, args...), Fix: fix}
}

func failure(fix, format string, args ...any) Finding {
	return Finding{Level: Fail, Found: fmt.Sprintf(format, args...), Fix: fix}
}

// one is a check that finds one thing.
func one(f Finding) []Finding { return []Finding{f} }
