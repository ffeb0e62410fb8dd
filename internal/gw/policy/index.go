package policy

import (
	"math"
	"net/netip"
	"slices"

	"moongate/internal/gw/flow"
)

// index finds the first rule that matches without asking all of them. Each
// rule is filed under the values of one of its conditions, the one whose values
// are shared with the fewest others; a flow asks the rules that are filed under
// what it is, and those without a condition to be filed under, in their order.
type index struct {
	rules       []rule
	exact       map[string][]int32 // hosts; numbers of rules, ascending, as everywhere here
	below       map[string][]int32 // "*.example.com" is under "example.com"
	source      networks
	destination networks
	port        map[uint16][]int32
	rest        []int32
}

// maxPorts is how many ports a rule may name for them to be filed under each.
const maxPorts = 64

// networks files rules under networks.
type networks struct {
	lists map[netip.Prefix][]int32 // masked
	bits4 []int                    // the lengths of the prefixes among them
	bits6 []int
}

// condition is one of a rule's that it can be filed under.
type condition int

const (
	byHost condition = iota
	bySource
	byDestination
	byPort
	byNothing
)

// newIndex files the rules of one kind. The numbers are those in all.
func newIndex(all []rule, kind flow.Kind) *index {
	x := &index{
		rules: all, exact: map[string][]int32{}, below: map[string][]int32{}, port: map[uint16][]int32{},
		source: networks{lists: map[netip.Prefix][]int32{}}, destination: networks{lists: map[netip.Prefix][]int32{}},
	}
	crowd := x.count(kind)
	for i := range all {
		if all[i].kind == kind {
			x.file(int32(i), crowd.best(&all[i]))
		}
	}
	x.source.sort()
	x.destination.sort()
	return x
}

// crowds tells how many rules have a value.
type crowds struct {
	exact, below        map[string]int
	source, destination map[netip.Prefix]int
	port                map[uint16]int
}

func (x *index) count(kind flow.Kind) *crowds {
	c := &crowds{map[string]int{}, map[string]int{}, map[netip.Prefix]int{}, map[netip.Prefix]int{}, map[uint16]int{}}
	for i := range x.rules {
		r := &x.rules[i]
		if r.kind != kind {
			continue
		}
		if r.hosts != nil {
			for name := range r.hosts.exact {
				c.exact[name]++
			}
			for name := range r.hosts.wildcard {
				c.below[name]++
			}
		}
		for _, p := range r.source {
			c.source[p.Masked()]++
		}
		for _, p := range r.destination {
			c.destination[p.Masked()]++
		}
		for port := range r.eachPort {
			c.port[port]++
		}
	}
	return c
}

// best chooses the condition of a rule whose values the fewest others have.
func (c *crowds) best(r *rule) condition {
	best, least := byNothing, math.MaxInt
	consider := func(by condition, most int) {
		if most < least {
			best, least = by, most
		}
	}
	if r.hosts != nil {
		most := 0
		for name := range r.hosts.exact {
			most = max(most, c.exact[name])
		}
		for name := range r.hosts.wildcard {
			most = max(most, c.below[name])
		}
		consider(byHost, most)
	}
	if len(r.source) > 0 && !r.negateSource {
		consider(bySource, mostOf(c.source, r.source))
	}
	if len(r.destination) > 0 && !r.negateDestination {
		consider(byDestination, mostOf(c.destination, r.destination))
	}
	if r.fewPorts() {
		most := 0
		for port := range r.eachPort {
			most = max(most, c.port[port])
		}
		consider(byPort, most)
	}
	return best
}

func mostOf(crowd map[netip.Prefix]int, set addresses) int {
	most := 0
	for _, p := range set {
		most = max(most, crowd[p.Masked()])
	}
	return most
}

// fewPorts reports whether a rule names ports, and not too many.
func (r *rule) fewPorts() bool {
	n := 0
	for _, p := range r.ports {
		if n += int(p.last) - int(p.first) + 1; n > maxPorts {
			return false
		}
	}
	return r.ports != nil
}

// eachPort yields the ports of a rule, where they are few.
func (r *rule) eachPort(yield func(uint16) bool) {
	if !r.fewPorts() {
		return
	}
	for _, p := range r.ports {
		for port := int(p.first); port <= int(p.last); port++ {
			if !yield(uint16(port)) {
				return
			}
		}
	}
}

func (x *index) file(number int32, by condition) {
	r := &x.rules[number]
	switch by {
	case byHost:
		for name := range r.hosts.exact {
			x.exact[name] = append(x.exact[name], number)
		}
		for name := range r.hosts.wildcard {
			x.below[name] = append(x.below[name], number)
		}
	case bySource:
		x.source.file(number, r.source)
	case byDestination:
		x.destination.file(number, r.destination)
	case byPort:
		for port := range r.eachPort {
			if list := x.port[port]; len(list) == 0 || list[len(list)-1] != number {
				x.port[port] = append(list, number)
			}
		}
	default:
		x.rest = append(x.rest, number)
	}
}

func (n *networks) file(number int32, set addresses) {
	for _, p := range set {
		p = p.Masked()
		if list := n.lists[p]; len(list) == 0 || list[len(list)-1] != number {
			n.lists[p] = append(list, number)
		}
	}
}

// sort notes which lengths there are.
func (n *networks) sort() {
	for p := range n.lists {
		bits := &n.bits4
		if p.Addr().Is6() {
			bits = &n.bits6
		}
		if !slices.Contains(*bits, p.Bits()) {
			*bits = append(*bits, p.Bits())
		}
	}
}

// add appends the lists that an address is in.
func (n *networks) add(to [][]int32, a netip.Addr) [][]int32 {
	bits := n.bits4
	if a.Is6() {
		bits = n.bits6
	}
	for _, b := range bits {
		if p, err := a.Prefix(b); err == nil {
			to = appendList(to, n.lists[p])
		}
	}
	return to
}

func appendList(to [][]int32, list []int32) [][]int32 {
	if len(list) > 0 {
		to = append(to, list)
	}
	return to
}

// first returns the first rule that matches; nil where none does.
func (x *index) first(q *query) *rule {
	var room [32][]int32
	lists := appendList(room[:0], x.rest)
	if len(x.exact)+len(x.below) > 0 {
		lists = x.addNames(lists, q.host)
		if q.sni != "" && q.sni != q.host {
			lists = x.addNames(lists, q.sni)
		}
	}
	lists = x.source.add(lists, q.Client)
	lists = x.destination.add(lists, q.Server)
	lists = appendList(lists, x.port[q.Port])
	for {
		lowest := int32(math.MaxInt32)
		for _, list := range lists {
			if len(list) > 0 {
				lowest = min(lowest, list[0])
			}
		}
		if lowest == math.MaxInt32 {
			return nil
		}
		if r := &x.rules[lowest]; r.matches(q) {
			return r
		}
		for i, list := range lists {
			if len(list) > 0 && list[0] == lowest {
				lists[i] = list[1:]
			}
		}
	}
}

func (x *index) addNames(to [][]int32, name string) [][]int32 {
	to = appendList(to, x.exact[name])
	if len(x.below) == 0 {
		return to
	}
	for parent := range parents(name) {
		to = appendList(to, x.below[parent])
	}
	return to
}
