package config

import (
	"slices"
	"strconv"
	"strings"
)

// The lists of services, of which the first that has a name is meant.
const (
	vsysServicesPath   = VsysPath + "/service"
	sharedServicesPath = SharedPath + "/service"
)

// The services that are there without being made.
const (
	applicationDefault = "application-default"
	serviceHTTP        = "service-http"
	serviceHTTPS       = "service-https"
)

// serviceTable is a list of services, for rules to refer to by name.
func serviceTable() *element {
	protocol := func(name, help string) *element {
		return container(name, help,
			leaf("port", "the server's ports", ports()).need(),
			leaf("source-port", "the client's ports", ports()).await(),
			choice("override", "timeouts of the service's own",
				container("no", "none"),
				container("yes", "some").await(),
			),
		)
	}
	return entries("service", "a service, for rules to refer to by its name", serviceName(),
		choice("protocol", "what it is reached by",
			protocol("tcp", "TCP"),
			protocol("udp", "UDP, which no rule meets as long as TLS over TCP alone is inspected"),
			container("sctp", "SCTP").await(),
		).need(),
		leaf("description", "for people", text(1023)).note(),
		members("tag", "labels", text(127)).await(),
	)
}

// serviceName is a name that no service that is always there has.
func serviceName() *value {
	v := objectName(63)
	find := v.find
	v.find = func(s string) string {
		if slices.Contains(serviceWords(), s) {
			return "a name that always has its own meaning"
		}
		return find(s)
	}
	return v
}

func serviceWords() []string {
	return []string{anyWord, applicationDefault, serviceHTTP, serviceHTTPS}
}

// serviceIn is a member of a rule's services.
func serviceIn() *value {
	v := nameIn(vsysServicesPath, sharedServicesPath)
	v.words = serviceWords()
	v.doc = oneOf(append(serviceWords(), "the name of an entry of "+vsysServicesPath+" or "+sharedServicesPath))
	return v
}

// maxRanges is a bound for one service.
const maxRanges = 100

// ports are ports and ranges of them: 443 or 80,8080-8090.
func ports() *value {
	return &value{
		doc: "ports and ranges such as 443 or 80,8080-8090",
		find: func(s string) string {
			_, wrong := parsePorts(s)
			return wrong
		},
	}
}

func parsePorts(s string) ([]PortRange, string) {
	var ranges []PortRange
	for part := range strings.SplitSeq(s, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		if !isPort(first) || !isPort(last) {
			return nil, "not ports"
		}
		if len(ranges) == maxRanges {
			return nil, "more than " + strconv.Itoa(maxRanges) + " ranges"
		}
		low, _ := decimal(first) // isPort said that they are numbers
		high, _ := decimal(last)
		if low > high {
			return nil, "a range that ends before it begins"
		}
		ranges = append(ranges, PortRange{uint16(low), uint16(high)})
	}
	return ranges, ""
}
