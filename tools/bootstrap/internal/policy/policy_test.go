package policy

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"gitlab.com/slipway/slipway/pkg/landscape"
)

var update = flag.Bool("update", false, "write the golden files")

func snapshot(t *testing.T) *landscape.Snapshot {
	t.Helper()
	src, err := landscape.LoadDir("../../../../examples/platform/landscape")
	if err != nil {
		t.Fatal(err)
	}
	known := landscape.Known{Accounts: map[string]string{}, StateKeys: map[string]string{}, BundleKey: "arn:aws:kms:eu-central-1:222222222222:key/bundles"}
	for i, name := range []string{"shared", "security", "nonprod", "prod"} {
		id := strings.Repeat(fmt.Sprint(i+2), 12)
		known.Accounts[name] = id
		known.StateKeys[name] = "arn:aws:kms:eu-central-1:" + id + ":key/state"
	}
	s, err := landscape.Compile(src, known)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// everything renders each policy of the example.
func everything(t *testing.T) (string, map[string]Document) {
	s := snapshot(t)
	accounts := map[string]string{}
	for name, a := range s.Accounts {
		accounts[name] = a.ID
	}
	docs := map[string]Document{}
	var signers []landscape.Role
	for _, r := range s.Roles {
		docs["role "+r.Account+"/"+r.Name+" trust"] = Trust(r, accounts[r.Account], s.GitLab)
		docs["role "+r.Account+"/"+r.Name+" permissions"] = Permissions(s, r, "o-example")
		if r.Purpose == landscape.PurposeDeploy {
			signers = append(signers, r)
		}
	}
	trail := TrailARN(s.Region, accounts["management"], "nsflow-audit")
	docs["key state"] = StateKey(accounts["prod"])
	docs["key bundles"] = BundleKey(accounts["shared"], signers, accounts, "o-example")
	docs["key audit"] = AuditKey(accounts["security"], accounts["management"], trail)
	docs["bucket state"] = StateBucket(s.Accounts["prod"].Backend.Bucket)
	docs["bucket audit"] = AuditBucket(landscape.AuditBucket("nsflow", accounts["security"], s.Region), accounts["management"], "o-example", trail)
	var names []string
	for name := range docs {
		names = append(names, name)
	}
	slices.Sort(names)
	var b bytes.Buffer
	for _, name := range names {
		fmt.Fprintf(&b, "== %s\n", name)
		if err := json.Indent(&b, []byte(docs[name].String()), "", " "); err != nil {
			t.Fatal(err)
		}
		b.WriteByte('\n')
	}
	return b.String(), docs
}

func TestGolden(t *testing.T) {
	got, docs := everything(t)
	const file = "testdata/policies.golden"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; run the test with -update and look at the difference", file)
	}
	stars := []string{"kms:*", "s3:*", "kms:GenerateDataKey*"} // each with its reason where it is written
	for name, d := range docs {
		for _, s := range d.Statement {
			for _, a := range s.Action {
				if strings.Contains(a, "*") && (!slices.Contains(stars, a) || strings.HasPrefix(name, "role ")) {
					t.Errorf("%s: %s allows %s", name, s.Sid, a)
				}
			}
			if len(s.Action) == 0 || strings.HasPrefix(name, "key ") && len(s.Resource) == 0 {
				t.Errorf("%s: %s is void", name, s.Sid)
			}
			if strings.HasSuffix(name, "permissions") && slices.Contains(s.Resource, "") {
				t.Errorf("%s: %s names an empty resource", name, s.Sid)
			}
		}
		if size := len(d.String()); strings.HasSuffix(name, "trust") && size > 2048 || size > 10240 {
			t.Errorf("%s has %d characters, more than IAM takes", name, size)
		}
	}
}

func TestTrust(t *testing.T) {
	gl := landscape.GitLab{URL: "https://gitlab.example.com", Audience: "aud"}
	exact := Trust(landscape.Role{Subjects: []string{"project_id:1:ref:main"}}, "222222222222", gl)
	if s := exact.Statement[0]; len(exact.Statement) != 1 || s.Condition["StringEquals"]["gitlab.example.com:sub"][0] != "project_id:1:ref:main" ||
		s.Condition["StringEquals"]["gitlab.example.com:aud"][0] != "aud" || s.Principal["Federated"][0] != "arn:aws:iam::222222222222:oidc-provider/gitlab.example.com" {
		t.Errorf("trust %s", exact)
	}
	star := Trust(landscape.Role{Subjects: []string{"project_id:1:ref:*"}}, "222222222222", gl)
	if s := star.Statement[0]; s.Condition["StringLike"]["gitlab.example.com:sub"] == nil || s.Condition["StringEquals"]["gitlab.example.com:sub"] != nil ||
		s.Condition["StringEquals"]["gitlab.example.com:aud"] == nil {
		t.Errorf("a star under StringEquals matches nothing: %s", star)
	}
}

func TestEqual(t *testing.T) {
	const base = `{"Version":"2012-10-17","Statement":[{"Sid":"A","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111111111111:root"},"Action":["s3:GetObject","s3:PutObject"],"Resource":"x","Condition":{"StringEquals":{"aws:SourceArn":"y"}}}]}`
	for name, c := range map[string]struct {
		other string
		same  bool
	}{
		"itself":              {base, true},
		"URL-encoded":         {url.QueryEscape(base), true},
		"list of one":         {strings.Replace(base, `"Resource":"x"`, `"Resource":["x"]`, 1), true},
		"order of actions":    {strings.Replace(base, `"s3:GetObject","s3:PutObject"`, `"s3:PutObject","s3:GetObject"`, 1), true},
		"account by number":   {strings.Replace(base, "arn:aws:iam::111111111111:root", "111111111111", 1), true},
		"case of a key":       {strings.Replace(base, "aws:SourceArn", "aws:sourcearn", 1), true},
		"case of an action":   {strings.Replace(base, "s3:GetObject", "S3:getobject", 1), true},
		"another effect":      {strings.Replace(base, "Allow", "Deny", 1), false},
		"another value":       {strings.Replace(base, `"y"`, `"Y"`, 1), false},
		"a further action":    {strings.Replace(base, `"s3:GetObject",`, `"s3:GetObject","s3:DeleteObject",`, 1), false},
		"no condition":        {strings.Replace(base, `,"Condition":{"StringEquals":{"aws:SourceArn":"y"}}`, "", 1), false},
		"another operator":    {strings.Replace(base, "StringEquals", "StringLike", 1), false},
		"another principal":   {strings.Replace(base, "111111111111", "222222222222", 1), false},
		"everybody":           {strings.Replace(base, `{"AWS":"arn:aws:iam::111111111111:root"}`, `"*"`, 1), false},
		"a deleted principal": {strings.Replace(base, "arn:aws:iam::111111111111:root", "AROAEXAMPLE", 1), false},
		"a second statement":  {strings.Replace(base, `}]}`, `},{"Sid":"B","Effect":"Allow","Action":"s3:*"}]}`, 1), false},
		"nothing":             {"", false},
	} {
		if got := Equal(base, c.other); got != c.same {
			t.Errorf("%s: equal is %v", name, got)
		}
	}
	if !Equal(`{"Statement":[{"Principal":"*"}]}`, `{"Statement":[{"Principal":{"AWS":["*"]}}]}`) {
		t.Error("the two ways to write everybody differ")
	}
	if Equal("", "") || Equal("{", "{") {
		t.Error("what is no policy equals another")
	}
}
