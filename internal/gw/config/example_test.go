package config_test

import (
	"fmt"

	"moongate/internal/gw/config"
)

func ExampleBuilder() {
	system := config.DevicePath + "/deviceconfig/system"
	server := system + "/hsm-settings/provider/safenet-network/hsm-server/" + config.EntryStep("luna-1")

	b := config.NewBuilder()
	b.Set(system+"/hostname", "edge-1")
	b.Set(server+"/server-address", "127.0.0.1")
	data, err := b.Bytes()
	if err != nil {
		fmt.Println(err)
		return
	}
	snapshot, _, err := config.Parse(data)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(snapshot.Hostname, snapshot.HSM.Servers[0].Address, snapshot.HSM.Servers[0].Port)

	b.Set(system+"/hostnam", "edge-2")
	_, err = b.Bytes()
	fmt.Println(err)
	// Output:
	// edge-1 127.0.0.1 1792
	// /config/devices/entry[@name='localhost.localdomain']/deviceconfig/system/hostnam: unknown element, got "hostnam", did you mean "hostname"?
}
