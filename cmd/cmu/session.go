package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"moongate/client"
)

const systemConfig = "/etc/moongate/client.toml"

// configPath is the client configuration that is used: -config, then
// $MOONGATE_CLIENT_CONF, then the user's, then the system's. Where neither of
// the last two exists it is the user's.
func (t *tool) configPath(o options) (string, error) {
	if o.has("config") {
		return o.text("config"), nil
	}
	if path := t.getenv("MOONGATE_CLIENT_CONF"); path != "" {
		return path, nil
	}
	dir := t.getenv("XDG_CONFIG_HOME")
	if dir == "" {
		home := t.getenv("HOME")
		if home == "" {
			return systemConfig, nil
		}
		dir = filepath.Join(home, ".config")
	}
	own := filepath.Join(dir, "moongate", "client.toml")
	for _, path := range []string{own, systemConfig} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("looking for the client configuration: %w", err)
		}
	}
	return own, nil
}

// clientConfig reads the configuration and adds what the command line says.
func (t *tool) clientConfig(o options) (client.Config, error) {
	role, err := roleOf(o.text("role"))
	if err != nil {
		return client.Config{}, err
	}
	if slot := o.number("slot", 0); slot != 0 {
		return client.Config{}, &usageError{fmt.Sprintf("-slot=%d; the configured partition is slot 0, another one is chosen with -partition=", slot)}
	}
	path, err := t.configPath(o)
	if err != nil {
		return client.Config{}, err
	}
	if err := checkSettings(path); err != nil {
		return client.Config{}, err
	}
	config, err := client.LoadConfig(path)
	if err != nil {
		return client.Config{}, err
	}
	if o.has("partition") {
		config.Partition = o.text("partition")
	}
	config.Role, config.Software = role, "cmu "+version
	config.Password = t.password(o, config.Password)
	return config, nil
}

func roleOf(name string) (client.Role, error) {
	switch strings.ToLower(name) {
	case "", "co", "crypto-officer":
		return client.RoleCryptoOfficer, nil
	case "cu", "crypto-user":
		return client.RoleCryptoUser, nil
	}
	return client.RoleNone, &usageError{fmt.Sprintf("-role=%s; expected co or cu", name)}
}

// password returns where the partition's password comes from: the command
// line, the configuration, or the prompt. The prompt comes once, and only when
// the HSM has been reached; its answer is kept for a reconnect.
func (t *tool) password(o options, configured func() ([]byte, error)) func() ([]byte, error) {
	switch {
	case o.has("passwordFile"):
		return client.PasswordFile(o.text("passwordFile"))
	case o.has("password"):
		t.con.warn("%s", warnPassword)
		return func() ([]byte, error) { return []byte(o.text("password")), nil }
	case configured != nil:
		return configured
	}
	var typed []byte
	return func() ([]byte, error) {
		if typed == nil {
			var err error
			if typed, err = t.con.secret(promptPassword); err != nil {
				return nil, err
			}
		}
		return slices.Clone(typed), nil // the client wipes what it gets
	}
}

// session is a login to the partition.
type session struct{ *client.Client }

func (t *tool) connect(ctx context.Context, o options) (*session, error) {
	config, err := t.clientConfig(o)
	if err != nil {
		return nil, err
	}
	c, err := client.Dial(ctx, config)
	if err != nil {
		return nil, err
	}
	return &session{c}, nil
}
