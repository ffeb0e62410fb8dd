package embedded

import (
	"bytes"
	"fmt"
	"net"
	"strconv"

	"moongate/internal/durable"
	"moongate/internal/gw/config"

	"github.com/BurntSushi/toml"
)

// writeConfiguration writes the gateway's first configuration. It is never
// written again: from then on it is the administrator's.
func writeConfiguration(path string, ports Ports, hsms []*hsm, certificates map[string][]byte, originCA []byte) error {
	b := config.NewBuilder()
	system := config.DevicePath + "/deviceconfig/system"
	b.Set(system+"/hostname", "moongate")
	network := system + "/hsm-settings/provider/safenet-network"
	for _, h := range hsms {
		server := network + "/hsm-server/" + config.EntryStep(h.server)
		host, port, err := net.SplitHostPort(h.address)
		if err != nil {
			return fmt.Errorf("making the gateway's configuration: %w", err)
		}
		b.Set(server+"/server-address", host)
		b.Set(server+"/port", port)
		if h.shell != 0 {
			b.Set(server+"/ssh-port", strconv.Itoa(h.shell))
		}
	}
	if len(hsms) > 1 {
		b.Set(network+"/ha/ha-group-name", groupName)
	}

	management := config.DevicePath + "/deviceconfig/setting/management"
	b.Set(management+"/https-port", strconv.Itoa(ports.Web))
	b.Set(management+"/ssh-port", strconv.Itoa(ports.Shell))
	b.Set(management+"/metrics-port", strconv.Itoa(ports.Figures))

	proxy := config.DevicePath + "/deviceconfig/setting/proxy"
	forward := proxy + "/forward/" + config.EntryStep(proxyName)
	b.Set(forward+"/address", "127.0.0.1")
	b.Set(forward+"/port", strconv.Itoa(ports.Proxy))
	inbound := proxy + "/inbound/" + config.EntryStep(demoName)
	b.Set(inbound+"/address", "127.0.0.1")
	b.Set(inbound+"/port", strconv.Itoa(ports.Inbound))
	b.Set(inbound+"/server-address", "127.0.0.1")
	b.Set(inbound+"/server-port", strconv.Itoa(ports.Origin))
	b.Set(inbound+"/server-name", "localhost")
	// The demonstration origin is on this machine, where the proxy does not go
	// otherwise.
	b.Set(proxy+"/allowed-destination", local(ports.Origin))

	certificate := config.SharedPath + "/certificate/"
	for _, spec := range specs {
		entry := certificate + config.EntryStep(spec.label)
		b.Set(entry+"/public-key", string(certificates[spec.label]))
		b.Set(entry+"/private-key-on-hsm", "yes")
	}
	b.Set(certificate+config.EntryStep(originCAName)+"/public-key", string(originCA))

	decrypt := config.SharedPath + "/ssl-decrypt"
	b.Set(decrypt+"/forward-trust-certificate/rsa", "forward-trust")
	b.Set(decrypt+"/forward-trust-certificate/ecdsa", "forward-trust-ecdsa")
	b.Set(decrypt+"/forward-untrust-certificate/rsa", "forward-untrust")
	b.Set(decrypt+"/forward-untrust-certificate/ecdsa", "forward-untrust-ecdsa")
	b.Set(decrypt+"/trusted-root-CA", originCAName)

	rules := config.VsysPath + "/rulebase/decryption/rules/"
	toDemo := rules + config.EntryStep("inbound-demonstration")
	b.Set(toDemo+"/action", "decrypt")
	b.Set(toDemo+"/destination", "127.0.0.1")
	b.Set(toDemo+"/type/ssl-inbound-inspection/certificates", "inbound-demo", "inbound-demo-ecdsa")
	outward := rules + config.EntryStep("forward-everything")
	b.Set(outward+"/action", "decrypt")
	b.Set(outward + "/type/ssl-forward-proxy")

	text, err := b.Bytes()
	if err != nil {
		return fmt.Errorf("making the gateway's configuration: %w", err)
	}
	if err := durable.WriteFile(path, text, 0o600); err != nil {
		return fmt.Errorf("writing the gateway's configuration: %w", err)
	}
	return nil
}

// writeHSMSettings says where the HSM's shell and figures are. The client port
// is an option of `serve`: the gateway's configuration has it.
func writeHSMSettings(path string, ports Ports) error {
	var b bytes.Buffer
	b.WriteString("# `moongate-hsm config` prints a file with every key.\n")
	if err := toml.NewEncoder(&b).Encode(hsmSettings{
		SSH: listening{local(ports.HSMShell)}, Metrics: listening{local(ports.HSMFigures)},
	}); err != nil {
		return err
	}
	return durable.WriteFile(path, b.Bytes(), 0o600)
}
