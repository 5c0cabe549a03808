package netpolicy

import (
	"fmt"
	"slices"
	"strings"
)

// Table is the table of the rules. Nothing else is in it.
const Table = "slipway-networkpolicy"

// render writes the table. A packet passes the chain of the pod that sends it
// and then that of the pod that receives it: what is allowed returns from a
// chain, what reaches its end is dropped and counted. Addresses are those
// after the destination of a Service was chosen, which happens at an earlier
// priority.
//
// What the node itself sends is not looked at: kubelet's probes and the like
// always arrive. What a pod sends to the node is judged as any egress.
func render(in, out []guard) string {
	var t strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&t, format+"\n", args...) }
	// Named first, so that it can be deleted where there is none yet.
	line("table ip %s\ndelete table ip %s\ntable ip %s {", Table, Table, Table)
	for _, g := range out {
		line("%s", g.chain("out"))
	}
	for _, g := range in {
		line("%s", g.chain("in"))
	}
	for _, hook := range []string{"forward", "input"} {
		line("\tchain %s {\n\t\ttype filter hook %s priority filter; policy accept;", hook, hook)
		line("\t\tct state established,related accept")
		if len(out) > 0 {
			line("\t\tip saddr vmap { %s }", jumps("out", out))
		}
		if len(in) > 0 && hook == "forward" {
			line("\t\tip daddr vmap { %s }", jumps("in", in))
		}
		line("\t}")
	}
	line("}")
	return t.String()
}

func (g guard) name(direction string) string { return direction + "-" + g.addr.String() }

func (g guard) chain(direction string) string {
	var t strings.Builder
	fmt.Fprintf(&t, "\tchain %s {\n", g.name(direction))
	var seen []string
	for _, match := range g.allowed {
		if !slices.Contains(seen, match) {
			seen = append(seen, match)
			fmt.Fprintf(&t, "\t\t%s\n", strings.TrimSpace(match+" return"))
		}
	}
	t.WriteString("\t\tcounter drop\n\t}")
	return t.String()
}

func jumps(direction string, guards []guard) string {
	var all []string
	for _, g := range guards {
		all = append(all, fmt.Sprintf("%s : jump %s", g.addr, g.name(direction)))
	}
	return strings.Join(all, ", ")
}
