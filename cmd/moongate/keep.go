package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	gateway "moongate/internal/gw/daemon"
)

// gatewayDir is the flag of the commands that are about a gateway alone.
func gatewayDir(flags *flag.FlagSet) *string {
	return flags.String("data", filepath.Join(dataDir(), "gateway"), "the gateway's data directory")
}

// backup is `moongate backup -out FILE`.
func backup(argv []string) error {
	flags := flag.NewFlagSet("backup", flag.ExitOnError)
	dir := gatewayDir(flags)
	out := flags.String("out", "", "file to write; it must not be there yet")
	logs := flags.Bool("logs", false, "with the logs")
	flags.Parse(argv)
	if err := noMore(flags); err != nil {
		return err
	}
	if *out == "" {
		return errors.New("backup: -out FILE is missing")
	}
	pass, err := newConsole().secret("Passphrase for the backup: ", true)
	if err != nil {
		return err
	}
	defer clear(pass)
	ctx, stop := interrupted()
	defer stop()
	n, err := gateway.CreateBackup(ctx, *dir, *out, gateway.BackupRequest{Passphrase: pass, Logs: *logs})
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	fmt.Printf("%s holds %d files; it was read back and is whole. Whoever has it and its passphrase has this gateway's secrets.\n", *out, n)
	printNote(*dir)
	return nil
}

// restore is `moongate restore FILE -data DIR`.
func restore(argv []string) error {
	flags := flag.NewFlagSet("restore", flag.ExitOnError)
	dir := gatewayDir(flags)
	if len(argv) == 0 || strings.HasPrefix(argv[0], "-") && argv[0] != "-help" && argv[0] != "-h" {
		return errors.New("restore: name the backup first: moongate restore FILE [-data DIR]")
	}
	file := argv[0]
	flags.Parse(argv[min(1, len(argv)):])
	if err := noMore(flags); err != nil {
		return err
	}
	pass, err := newConsole().secret("Passphrase of the backup: ", false)
	if err != nil {
		return err
	}
	defer clear(pass)
	if err := gateway.Restore(file, *dir, pass); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	fmt.Printf("%s is the gateway that was backed up. Start it with: moongate serve -data %s\n", *dir, *dir)
	printNote(*dir)
	return nil
}

// printNote says what a backup does not hold.
func printNote(dir string) {
	if note := gateway.MasterKeyNote(dir); note != "" {
		fmt.Println(note)
	}
}

// masterKey is `moongate master-key recover`.
func masterKey(argv []string) error {
	flags := flag.NewFlagSet("master-key recover", flag.ExitOnError)
	dir := gatewayDir(flags)
	flags.Usage = func() {
		fmt.Fprint(os.Stderr, "Usage: moongate master-key recover [-data DIR]\n\nTakes the master key, as it was given, of a gateway that does not run and has lost the HSM that wrapped it, or its file.\nFrom then on the master key is in the gateway's file.\n\n")
		flags.PrintDefaults()
	}
	if len(argv) == 0 || argv[0] != "recover" {
		flags.Usage()
		return errors.New("master-key: the command is recover")
	}
	flags.Parse(argv[1:])
	if err := noMore(flags); err != nil {
		return err
	}
	given, err := newConsole().secret("Master key: ", false)
	if err != nil {
		return err
	}
	defer clear(given)
	if err := gateway.RecoverMasterKey(*dir, given); err != nil {
		return fmt.Errorf("master-key recover: %w", err)
	}
	fmt.Println("The master key is in the gateway's file again, and opens its keyring.")
	return nil
}

// administer is `moongate admin reset NAME`.
func administer(argv []string) error {
	flags := flag.NewFlagSet("admin reset", flag.ExitOnError)
	dir := gatewayDir(flags)
	create := flags.Bool("create", false, "make the account, a superuser, where it is not there")
	flags.Usage = func() {
		fmt.Fprint(os.Stderr, "Usage: moongate admin reset NAME [-create] [-data DIR]\n\nSets the password of an administrator of the gateway, running or not, and ends a lock-out.\n\n")
		flags.PrintDefaults()
	}
	if len(argv) == 0 || argv[0] != "reset" {
		flags.Usage()
		return errors.New("admin: the command is reset")
	}
	argv = argv[1:]
	var name string
	if len(argv) > 0 && !strings.HasPrefix(argv[0], "-") {
		name, argv = argv[0], argv[1:]
	}
	flags.Parse(argv)
	if name == "" {
		name = flags.Arg(0)
	} else if err := noMore(flags); err != nil {
		return err
	}
	if name == "" {
		return errors.New("admin reset: name the administrator")
	}
	password, err := newConsole().secret("New password of "+name+": ", true)
	if err != nil {
		return err
	}
	defer clear(password)
	ctx, stop := interrupted()
	defer stop()
	if err := gateway.ResetAdministrator(ctx, *dir, gateway.ResetRequest{Name: name, Password: password, Create: *create}); err != nil {
		return fmt.Errorf("admin reset: %w", err)
	}
	fmt.Printf("%s can log in by the new password.\n", name)
	return nil
}
