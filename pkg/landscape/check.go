package landscape

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"gitlab.com/slipway/slipway/pkg/yamlfile"
)

// checker finds what is wrong with a landscape beyond the form of its files.
// Fields that are missing were named by the decoder and are passed over.
type checker struct {
	s     *Source
	found yamlfile.Problems
}

func (c *checker) add(path, message, right string) {
	c.found = append(c.found, c.s.file.Problem(path, message, right))
}

// regions has the form of the commercial partition's regions; whether one is
// enabled, only AWS can say.
func validRegion(r string) bool {
	return regexp.MustCompile(`^(af|ap|ca|eu|il|me|mx|sa|us)-(central|north|south|east|west|northeast|northwest|southeast|southwest)-\d$`).MatchString(r)
}

func validName(name string, most int) bool {
	return len(name) <= most && regexp.MustCompile(`^[a-z]([a-z0-9-]*[a-z0-9])?$`).MatchString(name)
}

const nameRule = "lower-case letters, digits and dashes, from a letter, not ending with a dash, at most %d"

func (c *checker) name(path, name string, most int) {
	if name != "" && !validName(name, most) {
		c.add(path, fmt.Sprintf("%q is not a name", name), fmt.Sprintf(nameRule, most))
	}
}

// ref checks that name is one of the keys of have.
func ref[V any](c *checker, path, name, what string, have map[string]V) bool {
	if name == "" {
		return false
	}
	if _, ok := have[name]; !ok {
		c.add(path, fmt.Sprintf("there is no %s %q", what, name), known(what, keys(have)))
		return false
	}
	return true
}

func known(what string, have []string) string {
	if len(have) == 0 {
		return "the landscape has no " + what
	}
	return "known are " + strings.Join(have, ", ")
}

func (c *checker) check() {
	l := &c.s.Landscape
	c.name("name", l.Name, 16) // it starts bucket names, which have 63 characters
	c.aws()
	c.gitlab()
	c.accounts()
	ref(c, "audit.account", l.Audit.Account, "account", l.Accounts)
	if t := l.Audit.Trail; t != "" && (len(t) < 3 || !validName(t, 128) || strings.Contains(t, "--")) {
		c.add("audit.trail", fmt.Sprintf("%q is not a name of a trail", t), "3 to 128 lower-case letters, digits and single dashes")
	}
	if r := l.Registry; r != nil {
		ref(c, "registry.account", r.Account, "account", l.Accounts)
		for i, region := range r.Replicas {
			c.region(fmt.Sprintf("registry.replicas[%d]", i), region)
		}
	}
	if d := l.Domain; d != nil && d.Pattern != "" && (!strings.Contains(d.Pattern, "{service}") || !strings.Contains(d.Pattern, "{environment}")) {
		c.add("domain.pattern", fmt.Sprintf("the pattern %q would give one name to several things", d.Pattern), "it holds {service} and {environment}")
	}
	sound := c.copies()
	c.networks(sound)
	c.clusters()
	c.environments()
	for _, name := range keys(l.Teams) {
		c.name("teams."+name, name, 40)
	}
	c.services()
	c.namespaces()
	c.projects()
	c.supported()
}

// supported names what the files can say and this version does not make. What
// they must not say at all was told before.
func (c *checker) supported() {
	l := &c.s.Landscape
	if l.State != nil && (l.State.Lock == "dynamodb" || l.State.Lock == "both") {
		c.add("state.lock", fmt.Sprintf("lock tables are not made by this version, and state.lock is %q", l.State.Lock), "it is s3")
	}
	if l.Trust != nil && l.Trust.Shape == "chained" {
		c.add("trust.shape", fmt.Sprintf("only direct trust is made by this version, and trust.shape is %q", l.Trust.Shape), "it is direct")
	}
	if _, ok := l.Accounts[BundleAccount]; !ok && len(l.Accounts) > 0 {
		c.add("accounts", fmt.Sprintf("there is no account %q", BundleAccount), "it holds the key that signs bundles")
	}
}

func (c *checker) region(path, region string) {
	if region != "" && !validRegion(region) {
		c.add(path, fmt.Sprintf("%q is not a region", region), "a region of the commercial partition, such as eu-central-1")
	}
}

func (c *checker) aws() {
	a := c.s.Landscape.AWS
	c.region("aws.region", a.Region)
	if a.EmailPattern != "" && !strings.Contains(a.EmailPattern, "{account}") {
		c.add("aws.emailPattern", fmt.Sprintf("the pattern %q gives all accounts one address", a.EmailPattern), "it holds {account}")
	}
	if a.Supernet != "" {
		c.prefix("aws.supernet", a.Supernet)
	}
	for i, office := range a.Office {
		c.prefix(fmt.Sprintf("aws.office[%d]", i), office)
	}
}

// prefix parses an address range and wants it written as the range it is.
func (c *checker) prefix(path, text string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil || !p.Addr().Is4():
		c.add(path, fmt.Sprintf("%q is not an IPv4 address range", text), "it is written as 10.10.0.0/16")
		return p, false
	case p != p.Masked():
		c.add(path, fmt.Sprintf("%q is an address inside of a range", text), fmt.Sprintf("the range is %s", p.Masked()))
		return p, false
	}
	return p, true
}

func (c *checker) gitlab() {
	g := c.s.Landscape.GitLab
	if g.URL == "" {
		return
	}
	u, err := url.Parse(g.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || strings.HasSuffix(g.URL, "/") {
		c.add("gitlab.url", fmt.Sprintf("%q is not the address of an issuer of ID tokens", g.URL), "https://<host>, as the iss claim has it, without a slash at the end")
	}
}

func (c *checker) accounts() {
	l := &c.s.Landscape
	if _, ok := l.Accounts["management"]; !ok && len(l.Accounts) > 0 {
		c.add("accounts", "there is no account management", "it is the account that the organisation belongs to")
	}
	ids, emails := map[string]string{}, map[string]string{}
	for _, name := range keys(l.Accounts) {
		a, path := l.Accounts[name], "accounts."+name
		c.name(path, name, 32)
		if a.OU != "" {
			c.name(path+".ou", a.OU, 64)
			if name == "management" {
				c.add(path+".ou", "the management account is put into an organisational unit", "it stays at the root, where control policies do not reach it")
			}
		}
		if a.ID != "" {
			if !regexp.MustCompile(`^\d{12}$`).MatchString(a.ID) {
				c.add(path+".id", fmt.Sprintf("%q is not the number of an account", a.ID), "12 digits, in quotes")
			} else if other, ok := ids[a.ID]; ok {
				c.add(path+".id", fmt.Sprintf("the account %s is %q already", a.ID, other), "each account stands here once")
			}
			ids[a.ID] = name
		}
		if name == "management" && a.Email == "" {
			continue // it is never made, so it needs no address
		}
		c.email(name, emails)
	}
}

func (c *checker) email(account string, seen map[string]string) {
	l := &c.s.Landscape
	email, path := l.EmailOf(account), "accounts."+account+".email"
	if email == "" {
		if l.Accounts[account].ID == "" {
			c.add(path, "the account has no e-mail address to be made with", "set it, or aws.emailPattern, or the id of an account that exists")
		}
		return
	}
	ascii := !strings.ContainsFunc(email, func(r rune) bool { return r <= ' ' || r > '~' })
	local, domain, at := strings.Cut(email, "@")
	if len(email) < 6 || len(email) > 64 || !ascii || !at || local == "" || strings.Contains(domain, "@") || !strings.Contains(domain, ".") {
		c.add(path, fmt.Sprintf("the e-mail address %q (%d characters) would be refused", email, len(email)), "6 to 64 ASCII characters, one @")
	}
	if other, ok := seen[strings.ToLower(email)]; ok {
		c.add(path, fmt.Sprintf("the e-mail address %q is that of account %q", email, other), "each account has an address of its own")
	}
	seen[strings.ToLower(email)] = account
}

// copies checks copyOf and reports whether every chain of copies ends.
func (c *checker) copies() bool {
	l := &c.s.Landscape
	networks, clusters := map[string]string{}, map[string]string{}
	for name, n := range l.Networks {
		networks[name] = n.CopyOf
	}
	for name, k := range l.Clusters {
		clusters[name] = k.CopyOf
	}
	a := c.chain("network", "networks", networks)
	b := c.chain("cluster", "clusters", clusters)
	return a && b
}

func (c *checker) chain(what, field string, copyOf map[string]string) bool {
	sound := true
	for _, name := range keys(copyOf) {
		path := field + "." + name + ".copyOf"
		seen := []string{name}
		for next := copyOf[name]; next != ""; next = copyOf[next] {
			if _, ok := copyOf[next]; !ok {
				if len(seen) == 1 { // told once, at the copy that names it
					ref(c, path, next, what, copyOf)
				}
				sound = false
				break
			}
			if slices.Contains(seen, next) {
				if next == name {
					c.add(path, "a copy of itself: "+strings.Join(append(seen, next), " -> "), "one of them is written out")
				}
				sound = false
				break
			}
			seen = append(seen, next)
		}
	}
	return sound
}

func (c *checker) networks(sound bool) {
	l := &c.s.Landscape
	type taken struct {
		name string
		cidr netip.Prefix
	}
	var all []taken
	supernet, err := netip.ParsePrefix(l.AWS.Supernet)
	bounded := err == nil
	for _, name := range keys(l.Networks) {
		n, path := l.Networks[name], "networks."+name
		c.name(path, name, 32)
		if sound {
			n = l.network(name)
			if n.Account == "" {
				c.add(path+".account", "the field is missing", "it must be set")
			}
		}
		if c.s.file.Has(path + ".account") {
			ref(c, path+".account", n.Account, "account", l.Accounts)
		}
		c.region(path+".region", l.Networks[name].Region)
		if n.VPN == "office" && len(l.AWS.Office) == 0 && l.Networks[name].VPN != "" {
			c.add(path+".vpn", "the network is open to the office, of which no range is known", "set aws.office")
		}
		if n.CIDR == "" {
			continue
		}
		p, ok := c.prefix(path+".cidr", n.CIDR)
		if !ok {
			continue
		}
		if p.Bits() < 16 || p.Bits() > 28 {
			c.add(path+".cidr", fmt.Sprintf("a network of /%d cannot be made", p.Bits()), "AWS makes /16 to /28")
		}
		if bounded && (!supernet.Contains(p.Addr()) || p.Bits() < supernet.Bits()) {
			c.add(path+".cidr", fmt.Sprintf("%s is outside of the supernet %s", p, supernet), "every network lies in aws.supernet")
		}
		for _, o := range all {
			if o.cidr.Overlaps(p) {
				c.add(path+".cidr", fmt.Sprintf("%s overlaps with %s of network %q", p, o.cidr, o.name), "no two networks share an address")
			}
		}
		all = append(all, taken{name, p})
	}
}
