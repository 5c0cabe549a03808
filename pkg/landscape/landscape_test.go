package landscape

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"gitlab.com/slipway/slipway/pkg/yamlfile"
)

var update = flag.Bool("update", false, "write the golden files")

const exampleDir = "../../examples/platform/landscape"

func example(t *testing.T) *Source {
	t.Helper()
	src, err := LoadDir(exampleDir)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != string(got) {
		t.Errorf("%s differs; run the test with -update and look at the difference\n%s", file, got)
	}
}

func TestCompileGolden(t *testing.T) {
	known := Known{Accounts: map[string]string{"shared": "222222222222", "security": "333333333333", "nonprod": "444444444444", "prod": "555555555555"},
		StateKeys: map[string]string{"nonprod": "arn:aws:kms:eu-central-1:444444444444:key/a"}, BundleKey: "arn:aws:kms:eu-central-1:222222222222:key/b"}
	s, err := Compile(example(t), known)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/snapshot.golden.json", append(raw, '\n'))
	again, err := Compile(example(t), known)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := s.Digest()
	if b, _ := again.Digest(); a != b {
		t.Errorf("two compilations of one source have the digests %s and %s", a, b)
	}
}

func TestCompileOffline(t *testing.T) {
	s, err := Compile(example(t), Known{})
	if err != nil {
		t.Fatal(err)
	}
	if s.Accounts["management"].ID != "111111111111" || s.Accounts["prod"].ID != "" || s.Accounts["prod"].Backend != nil {
		t.Errorf("only what the files say is known offline: %+v", s.Accounts)
	}
	r, err := s.RoleFor(PurposeDeploy, "orders", "dev")
	if err != nil || r.ARN != "" || r.Account != "nonprod" {
		t.Errorf("role %+v, %v", r, err)
	}
	if _, err := s.RoleFor(PurposeDeploy, "orders", "stage"); err == nil {
		t.Error("a service has a role in a gated environment")
	}
	for _, r := range s.Roles {
		for _, sub := range r.Subjects {
			if strings.Contains(sub, "ref_protected:false") && r.Purpose != PurposeReview {
				t.Errorf("an unprotected ref gets role %s", r.Name)
			}
		}
	}
}

const head = "apiVersion: slipway/v1\nkind: Landscape\nname: nsflow\n"

// edit returns the example's files with replacements made in one of them.
func edit(t *testing.T, file string, pairs ...string) fstest.MapFS {
	t.Helper()
	fsys := fstest.MapFS{}
	for _, name := range []string{"landscape.yaml", "services/orders.yaml", "services/catalog.yaml"} {
		raw, err := os.ReadFile(exampleDir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		text := string(raw)
		for i := 0; name == file && i < len(pairs); i += 2 {
			if !strings.Contains(text, pairs[i]) {
				t.Fatalf("%q is not in %s", pairs[i], name)
			}
			text = strings.Replace(text, pairs[i], pairs[i+1], 1)
		}
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

func TestLoadProblems(t *testing.T) {
	const land, orders = "landscape.yaml", "services/orders.yaml"
	for name, c := range map[string]struct {
		file  string
		pairs []string
		want  []string // every problem, from its place on
	}{
		"unknown field": {land, []string{"audit: {trail:", "audit: {trial:"}, []string{
			`land/landscape.yaml:15:9: audit.trial: unknown field; did you mean "trail"?`, "land/landscape.yaml:15:8: audit.trail: the field is missing; it must be set"}},
		"unknown account": {land, []string{"nonprod: {account: nonprod,", "nonprod: {account: nonprd,"}, []string{
			`land/landscape.yaml:19:22: networks.nonprod.account: there is no account "nonprd"; known are management, nonprod, prod, security, shared`}},
		"unknown network":        {land, []string{"prod: {network: prod,", "prod: {network: dr,"}, []string{`land/landscape.yaml:23:19: clusters.prod.network: there is no network "dr"; known are nonprod, prod`}},
		"unknown cluster":        {land, []string{"clusters: [prod]", "clusters: [dr]"}, []string{`land/landscape.yaml:28:21: environments.prod.clusters[0]: there is no cluster "dr"; known are nonprod, prod`}},
		"overlap":                {land, []string{"10.30.0.0/16", "10.10.128.0/17"}, []string{`land/landscape.yaml:20:31: networks.prod.cidr: 10.10.128.0/17 overlaps with 10.10.0.0/16 of network "nonprod"; no two networks share an address`}},
		"outside":                {land, []string{"10.30.0.0/16", "172.16.0.0/16"}, []string{`networks.prod.cidr: 172.16.0.0/16 is outside of the supernet 10.0.0.0/8`}},
		"host bits":              {land, []string{"10.30.0.0/16", "10.30.0.1/16"}, []string{`"10.30.0.1/16" is an address inside of a range; the range is 10.30.0.0/16`}},
		"too wide":               {land, []string{"10.30.0.0/16", "10.30.0.0/12"}, []string{"inside of a range"}},
		"cycle":                  {land, []string{"nonprod: {account: nonprod, cidr", "nonprod: {copyOf: prod, cidr", "prod: {account: prod, cidr", "prod: {copyOf: nonprod, cidr"}, []string{"networks.nonprod.copyOf: a copy of itself: nonprod -> prod -> nonprod", "networks.prod.copyOf: a copy of itself"}},
		"copy of nothing":        {land, []string{"prod: {network: prod,", "prod: {copyOf: live,"}, []string{`clusters.prod.copyOf: there is no cluster "live"`}},
		"pattern":                {land, []string{`"{service}-dev"`, "dev"}, []string{`environments.dev.namespace: the pattern "dev" gives all services one namespace; it holds {service}`}},
		"same namespaces":        {land, []string{`"{service}-dev"`, `"{service}-stage"`}, []string{`environments.stage.namespace: environment "dev" has the same namespaces on cluster "nonprod"`}},
		"gated review":           {land, []string{"stopAfter: 2d", "stopAfter: 2d, gated: true"}, []string{"environments.review.gated: an environment of merge requests cannot be gated"}},
		"name":                   {land, []string{"name: nsflow", "name: NSFlow"}, []string{`land/landscape.yaml:3:7: name: "NSFlow" is not a name`}},
		"e-mail":                 {land, []string{"aws+{account}@example.com", "aws+{account}-of-a-very-long-name-of-a-company-and-a-department@example.com"}, []string{"accounts.nonprod.email", "accounts.prod.email", "accounts.security.email", "accounts.shared.email"}},
		"one e-mail for all":     {land, []string{"aws+{account}@example.com", "aws@example.com"}, []string{"gives all accounts one address", "accounts.prod.email", "accounts.security.email", "accounts.shared.email"}},
		"same id":                {land, []string{"prod: {ou: workloads, guard", `prod: {id: "111111111111", ou: workloads, guard`}, []string{`accounts.prod.id: the account 111111111111 is "management" already`}},
		"id without quotes":      {land, []string{`{id: "111111111111"}`, `{id: 111111111111}`}, []string{`accounts.management.id: here stands the number 111111111111`}},
		"issuer with a slash":    {land, []string{"url: https://gitlab.example.com,", "url: https://gitlab.example.com/,"}, []string{"gitlab.url"}},
		"region":                 {land, []string{"region: eu-central-1", "region: eu-centrall-1"}, []string{`aws.region: "eu-centrall-1" is not a region`}},
		"duplicate project":      {orders, []string{"id: 77", "id: 43"}, []string{"land/services/orders.yaml:5:36: project.id: project 43 is that of the environments"}},
		"branch":                 {orders, []string{"id: 77}", `id: 77, branch: "*"}`}, []string{`project.branch: "*" is not the name of a branch`}},
		"two paths of a project": {orders, []string{"id: 77", "id: 78"}, []string{`land/services/orders.yaml:5:17: project.path: project 78 is "nsflow/catalog" at service "catalog", and "nsflow/orders" here`}},
		"two ids of a project":   {orders, []string{"nsflow/orders", "nsflow/catalog"}, []string{`land/services/orders.yaml:5:37: project.id: project "nsflow/catalog" is 78 at service "catalog", and 77 here`}},
		"what this version lacks, with the rest": {land, []string{"lock: s3", "lock: both", "shape: direct", "shape: chained", "  shared: {ou", "  common: {ou", "registry: {account: shared", "registry: {account: common", "name: nsflow", "name: NSFlow"},
			[]string{"name: ", "state.lock: lock tables are not made", "trust.shape: only direct trust", `accounts: there is no account "shared"`}},
		"unknown team and environment": {orders, []string{"team: commerce", "team: commerse", "[review, dev,", "[review, div,"}, []string{
			`land/services/orders.yaml:4:7: team: there is no team "commerse"; known are commerce`, `land/services/orders.yaml:6:24: environments[1]: there is no environment "div"; known are dev, prod, review, stage`}},
		"file of another service": {orders, []string{"name: orders", "name: order"}, []string{`land/services/orders.yaml:3:7: name: service "order" is in the file of "orders"`}},
		"reserved name":           {orders, []string{"name: orders", "name: backup"}, []string{"a service and its file", "the platform's own roles"}},
		"size":                    {orders, []string{"20Gi", "20 GB"}, []string{`stores.postgres.size: "20 GB" is not a size`}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(edit(t, c.file, c.pairs...), "land")
			var got yamlfile.Problems
			if !errors.As(err, &got) {
				t.Fatalf("error %v, want problems", err)
			}
			if len(got) != len(c.want) {
				t.Errorf("%d problems, want %d", len(got), len(c.want))
			}
			for _, w := range c.want {
				if !slices.ContainsFunc(got, func(p yamlfile.Problem) bool { return strings.Contains(p.String(), w) }) {
					t.Errorf("%q is not among\n%v", w, err)
				}
			}
		})
	}
}

func TestLoadAllAtOnce(t *testing.T) {
	fsys := edit(t, "landscape.yaml", "name: nsflow", "name: NSFlow", "10.30.0.0/16", "10.10.0.0/16", "tier: staging", "tier: stageing")
	fsys["services/orders.yaml"] = &fstest.MapFile{Data: []byte("apiVersion: slipway/v1\nkind: LandscapeService\nname: orders\nteam: x\n")}
	fsys["services/catalog.yaml"] = &fstest.MapFile{Data: []byte("a: [")}
	_, err := Load(fsys, "")
	var got yamlfile.Problems
	if !errors.As(err, &got) || len(got) != 7 {
		t.Fatalf("%d problems, want 7: a name, an overlap, a tier, a project, environments, a team and a syntax error\n%v", len(got), err)
	}
	if _, err := Load(fstest.MapFS{}, "x"); err == nil || !strings.Contains(err.Error(), "x/landscape.yaml:1:1: the file does not exist") {
		t.Errorf("an empty folder: %v", err)
	}
	if _, err := Load(fstest.MapFS{"landscape.yaml": &fstest.MapFile{Data: []byte(head)}}, ""); err == nil {
		t.Error("a landscape of nothing but a name was read")
	}
}

func TestCopies(t *testing.T) {
	fsys := edit(t, "landscape.yaml",
		"  prod: {account: prod, cidr", "  dr: {copyOf: prod, account: security, region: eu-west-1, cidr: 10.40.0.0/16}\n  prod: {account: prod, cidr",
		"  prod: {network: prod,", "  dr: {copyOf: prod, network: dr, runnerTag: dr}\n  prod: {network: prod,")
	src, err := Load(fsys, "")
	if err != nil {
		t.Fatal(err)
	}
	n, k := src.Landscape.Networks["dr"], src.Landscape.Clusters["dr"]
	if n.NAT != "perZone" || n.VPN != "office" || n.Account != "security" || n.Region != "eu-west-1" || n.CIDR != "10.40.0.0/16" {
		t.Errorf("network %+v", n)
	}
	if k.Nodes == nil || k.Nodes.Max != 30 || k.RunnerTag != "dr" || k.Network != "dr" {
		t.Errorf("cluster %+v", k)
	}
	s, err := Compile(src, Known{})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Clusters["dr"]; got != (Cluster{Account: "security", Region: "eu-west-1", EKSName: "nsflow-dr"}) {
		t.Errorf("cluster %+v", got)
	}
}

// TestBranch: the roles trust the branch that the project has, and no other.
func TestBranch(t *testing.T) {
	src, err := Load(edit(t, "services/orders.yaml", "id: 77}", "id: 77, branch: release/next}"), "")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Compile(src, Known{})
	if err != nil {
		t.Fatal(err)
	}
	for service, want := range map[string]string{"orders": "project_id:77:ref_protected:true:ref_type:branch:ref:release/next", "catalog": "project_id:78:ref_protected:true:ref_type:branch:ref:main"} {
		if r, err := s.RoleFor(PurposeDeploy, service, "dev"); err != nil || !slices.Equal(r.Subjects, []string{want}) {
			t.Errorf("the role of %s trusts %v (%v), want %s", service, r.Subjects, err, want)
		}
	}
}

// TestMonorepo: several services of one project, from the files to what the
// other programs ask.
func TestMonorepo(t *testing.T) {
	src, err := Load(edit(t, "services/orders.yaml", "{path: nsflow/orders, id: 77}", "{path: nsflow/catalog, id: 78}"), "")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Compile(src, Known{})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.ServicesOf(78); !slices.Equal(got, []string{"catalog", "orders"}) {
		t.Errorf("ServicesOf = %v", got)
	}
	if got := s.GitLabEnvironment("orders", "dev"); got != "orders-dev" {
		t.Errorf("the deployments of orders are in %q", got)
	}
	if one, _ := Compile(example(t), Known{}); one.GitLabEnvironment("orders", "dev") != "dev" {
		t.Error("a project of one service needs no prefix")
	}
	for _, service := range []string{"catalog", "orders"} {
		r, err := s.RoleFor(PurposeDeploy, service, "dev")
		if err != nil || r.Name != service+"-dev" || !slices.Equal(r.Subjects, []string{"project_id:78:ref_protected:true:ref_type:branch:ref:main"}) {
			t.Errorf("the role of %s is %+v, %v", service, r, err)
		}
	}
}

// TestNamespaces: two patterns may give two services one namespace, or one of
// the cluster's own.
func TestNamespaces(t *testing.T) {
	for service, want := range map[string]string{
		"orders-dev":   `the namespace "orders-dev" on cluster "nonprod" is that of service "orders-dev" in environment "stage" too`,
		"orders-mr-12": `the namespace "orders-mr-12" on cluster "nonprod" is that of service "orders-mr-12" in environment "stage" too`,
		"default":      `the namespace "default" on cluster "nonprod" is the cluster's own`,
		"velero":       `the namespace "velero" on cluster "nonprod" is the cluster's own`,
		"kube-system":  `the namespace "kube-system" on cluster "nonprod" is the cluster's own`,
		"orders-mr":    "",
		"refunds":      "",
	} {
		fsys := edit(t, "landscape.yaml", `"{service}-stage"`, `"{service}"`)
		fsys["services/"+service+".yaml"] = &fstest.MapFile{Data: []byte("apiVersion: slipway/v1\nkind: LandscapeService\nname: " + service + "\nteam: commerce\nproject: {path: nsflow/x, id: 99}\nenvironments: [stage]\n")}
		_, err := Load(fsys, "")
		var got yamlfile.Problems
		if errors.As(err, &got); want == "" && err != nil || want != "" && (len(got) != 1 || !strings.Contains(got[0].String(), want)) {
			t.Errorf("service %s: %v, want %q", service, err, want)
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	for name, c := range map[string]struct{ old, new, want string }{
		"two purposes": {`  dev: {cluster: nonprod, tier: development, namespace: "{service}-dev"}`, `  dev: {cluster: nonprod, tier: development, namespace: "{service}-dev"}` + "\n" + `  a-dev: {cluster: nonprod, tier: development, namespace: "{service}-x-dev"}`, `two things would have the role "orders-a-dev"`},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := edit(t, "landscape.yaml", c.old, c.new)
			if name == "two purposes" {
				fsys["services/orders-a.yaml"] = &fstest.MapFile{Data: []byte("apiVersion: slipway/v1\nkind: LandscapeService\nname: orders-a\nteam: commerce\nproject: {path: nsflow/a, id: 79}\nenvironments: [dev]\n")}
				fsys["services/orders.yaml"].Data = []byte(strings.Replace(string(fsys["services/orders.yaml"].Data), "[review, dev,", "[review, dev, a-dev,", 1))
			}
			src, err := Load(fsys, "")
			if err != nil {
				t.Fatal(err)
			}
			_, err = Compile(src, Known{})
			var p yamlfile.Problems
			if !errors.As(err, &p) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func FuzzLoad(f *testing.F) {
	raw, err := os.ReadFile(exampleDir + "/landscape.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(raw))
	f.Add(head + "networks: {a: {copyOf: b}, b: {copyOf: a}}\nclusters: {x: {copyOf: x}}")
	f.Fuzz(func(t *testing.T, text string) {
		src, err := Load(fstest.MapFS{"landscape.yaml": &fstest.MapFile{Data: []byte(text)}}, "")
		if err == nil {
			_, _ = Compile(src, Known{})
		}
	})
}
