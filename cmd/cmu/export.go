package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"moongate/client"
	"moongate/internal/durable"
)

func (t *tool) export(ctx context.Context, o options) error {
	if file := o.text("outputFile"); file != "" {
		if err := mayWrite(file, o); err != nil {
			return err
		}
	}
	s, err := t.connect(ctx, o)
	if err != nil {
		return err
	}
	defer s.Close()
	inv, err := s.inventory(ctx, nil)
	if err != nil {
		return err
	}
	e, err := t.chooseExport(inv, o)
	if err != nil {
		return err
	}
	block := &pem.Block{Type: "PUBLIC KEY", Bytes: e.publicInfo()}
	if !o.flag("key", false) {
		block.Type = "CERTIFICATE"
		block.Bytes, _ = e.Attributes.Get(client.AttrValue)
	}
	file := o.text("outputFile")
	if file == "" {
		if file, err = t.con.ask(promptFile); err != nil {
			return &fixError{err, "give -outputFile="}
		}
		if file == "" {
			return &usageError{"-outputFile is missing"}
		}
		if err := mayWrite(file, o); err != nil {
			return err
		}
	}
	if file == "-" {
		t.con.printf("%s", pem.EncodeToMemory(block))
		return nil
	}
	if err := durable.WriteFile(file, pem.EncodeToMemory(block), 0o644); err != nil {
		return err
	}
	what := "Certificate"
	if o.flag("key", false) {
		what = "Public key"
	}
	t.con.printf("%s handle=%d label=%s (%s) written to %s\n", what, e.handle, shown(e.label()), shown(e.kind()), file)
	return nil
}

// mayWrite refuses to replace a file unasked, and ever to replace what is no
// file: a device, or a link to something else.
func mayWrite(file string, o options) error {
	if file == "-" {
		return nil
	}
	info, err := os.Lstat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("looking at the output file: %w", err)
	case !info.Mode().IsRegular():
		return &fixError{fmt.Errorf("%s is no regular file", file), "name another file; standard output is -"}
	case o.flag("force", false):
		return nil
	}
	return &fixError{fmt.Errorf("%s is there already", file), "name another file, or replace it with -force"}
}

// chooseExport returns the object that the command line names, or the only one
// that can be meant, or the one that is chosen.
func (t *tool) chooseExport(inv inventory, o options) (*entry, error) {
	key := o.flag("key", false)
	if o.has("handle") {
		e, err := inv.byHandle(o.number("handle", 0))
		if err != nil {
			return nil, err
		}
		return e, exportable(e, key)
	}
	class, what, make, prompt := client.ClassCertificate, "certificate", "cmu selfSign", promptCert
	if key {
		class, what, make, prompt = client.ClassPublicKey, "public key", "cmu gen", promptKey
	}
	list := inv.ofClass(class)
	switch len(list) {
	case 0:
		return nil, &fixError{fmt.Errorf("the partition has no %s", what), fmt.Sprintf("make one with `%s`", make)}
	case 1:
		return list[0], exportable(list[0], key)
	}
	t.con.errorf("The partition has several:\n")
	for _, e := range list {
		t.con.errorf("  handle=%d\tlabel=%s\t%s\n", e.handle, shown(e.label()), shown(e.kind()))
	}
	answer, err := t.con.ask(prompt)
	if err != nil {
		return nil, &fixError{err, "give -handle="}
	}
	handle, err := strconv.ParseUint(answer, 10, 64)
	if err != nil {
		return nil, &usageError{fmt.Sprintf("%q is no handle", answer)}
	}
	e, err := inv.byHandle(handle)
	if err != nil {
		return nil, err
	}
	return e, exportable(e, key)
}

// exportable says why an object cannot be written to a file. Private and
// secret keys never can.
func exportable(e *entry, key bool) error {
	switch class := e.class(); {
	case key && len(e.publicInfo()) == 0:
		return fmt.Errorf("handle=%d is a %v object without a public key", e.handle, class)
	case key, class == client.ClassCertificate:
		return nil
	case class == client.ClassPrivateKey:
		return &fixError{fmt.Errorf("handle=%d is a private key, which never leaves the HSM", e.handle), "its public key is exported with -key"}
	case class == client.ClassPublicKey:
		return &fixError{fmt.Errorf("handle=%d is a public key, expected a certificate", e.handle), "add -key"}
	}
	return fmt.Errorf("handle=%d is a %v object, expected a certificate", e.handle, e.class())
}
