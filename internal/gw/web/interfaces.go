package web

import "net"

// interfaces are those of this machine that have an address.
func interfaces() []Choice {
	list := []Choice{{"", "Use default"}}
	all, err := net.Interfaces()
	if err != nil {
		return list
	}
	for _, i := range all {
		var shown []string
		addresses, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addresses {
			if n, is := a.(*net.IPNet); is {
				shown = append(shown, n.IP.String())
			}
		}
		if len(shown) > 0 {
			list = append(list, interfaceChoice(i.Name, shown))
		}
	}
	return list
}
