package world

import (
	"context"
	"slices"
	"strings"

	"moongate/client"
	"moongate/internal/gw/config"
)

// Equip makes the keys of the settings with a client of the partition, and
// returns the lines of the configuration mode that give them, listeners and
// rules to a gateway that runs.
func (g *Gateway) Equip(ctx context.Context, c *client.Client, settings GatewaySettings) ([]string, error) {
	if err := g.makeKeysOn(ctx, c, settings); err != nil {
		return nil, err
	}
	ports, err := freePorts(1 + len(settings.Inbound))
	if err != nil {
		return nil, err
	}
	var lines setLines
	if err := g.decryption(&lines, ports, settings); err != nil {
		return nil, err
	}
	return lines, nil
}

// setLines are the set commands of paths.
type setLines []string

// Set adds one. A member of a list and a leaf are set alike.
func (l *setLines) Set(path string, values ...string) {
	*l = append(*l, "set "+words(path)+strings.Join(append([]string{""}, quoted(values)...), " "))
}

// words is how the command line names a path: the device and the virtual system
// are not said, and entries by their names alone.
func words(path string) string {
	for _, prefix := range []string{config.VsysPath, config.DevicePath, "/config"} {
		if rest, is := strings.CutPrefix(path, prefix+"/"); is {
			path = rest
			break
		}
	}
	return strings.Join(strings.FieldsFunc(strings.NewReplacer("/entry[@name='", " ", "']", " ", "/", " ").Replace(path), func(r rune) bool { return r == ' ' }), " ")
}

func quoted(values []string) []string {
	list := slices.Clone(values)
	for i, v := range list {
		if strings.ContainsAny(v, " \n") {
			list[i] = `"` + strings.ReplaceAll(strings.TrimSpace(v), "\n", `\n`) + `"`
		}
	}
	return list
}
