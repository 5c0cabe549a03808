package awsfront

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/organizations"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// clients are the SDK's, whose methods are the calls that AWS has.
func clients() map[string]reflect.Type {
	return map[string]reflect.Type{"cloudtrail": reflect.TypeFor[*cloudtrail.Client](), "eks": reflect.TypeFor[*eks.Client](), "iam": reflect.TypeFor[*iam.Client](),
		"kms": reflect.TypeFor[*kms.Client](), "organizations": reflect.TypeFor[*organizations.Client](), "secretsmanager": reflect.TypeFor[*secretsmanager.Client](), "ssm": reflect.TypeFor[*ssm.Client](), "sts": reflect.TypeFor[*sts.Client]()}
}

// TestOperationsExist: no call of the list is misspelt, so that none is
// refused, or counted as a change, for its name.
func TestOperationsExist(t *testing.T) {
	types := clients()
	for name := range operations() {
		service, call, _ := strings.Cut(name, ":")
		if service == "s3" || service == "s3control" {
			continue // named by the front, see TestS3CallsAreNamed
		}
		client, ok := types[service]
		if !ok {
			t.Errorf("%s: no client of the SDK's is known for the service", name)
			continue
		}
		if _, ok := client.MethodByName(call); !ok {
			t.Errorf("%s is no call of the SDK's", name)
		}
	}
	for name := range limits() {
		service, call, found := strings.Cut(name, ":")
		client, ok := types[service]
		if !found || !ok {
			continue
		}
		if _, ok := client.MethodByName(call); !ok {
			t.Errorf("the rate of %s is no call's", name)
		}
	}
}

// TestMutating holds the list of what changes something against the names of
// the calls: AWS names its reads alike, and the few others are written down.
func TestMutating(t *testing.T) {
	reads := []string{"Get", "List", "Describe", "Head"}
	others := map[string]bool{ // neither a read by its name nor a change
		"sts:AssumeRole": false, "sts:AssumeRoleWithWebIdentity": false, "kms:Sign": false, "kms:Verify": false,
		"kms:Encrypt": false, "kms:Decrypt": false, "kms:GenerateDataKey": false, "kms:GenerateDataKeyWithoutPlaintext": false,
	}
	c := counter{operations: operations()}
	for name := range c.operations {
		service, call, _ := strings.Cut(name, ":")
		want := !slices.ContainsFunc(reads, func(p string) bool { return strings.HasPrefix(call, p) })
		if listed, ok := others[name]; ok {
			want = listed
		}
		if got, known := c.mutating(service, call); got != want || !known {
			t.Errorf("mutating(%q) = %v, %v, want %v", name, got, known, want)
		}
	}
	if mutates, known := c.mutating("lambda", "GetFunction"); !mutates || known {
		t.Error("a call that is not in the list must count as a change")
	}
}

// TestCounterIsBounded: neither strange actions nor many calls use memory up.
func TestCounterIsBounded(t *testing.T) {
	c := counter{operations: operations()}
	for i := range maxEvents + 500 {
		c.add(Event{Service: "strange", Action: fmt.Sprintf("Action%d", i)})
	}
	if got := len(c.report().Calls); got != maxRows+1 {
		t.Errorf("%d rows, want %d", got, maxRows+1)
	}
	total := 0
	for _, row := range c.report().Calls {
		total += row.Count
	}
	if total != maxEvents+500 {
		t.Errorf("%d calls counted, want %d", total, maxEvents+500)
	}
	log := c.log(0)
	if len(log.Events) != maxEvents || log.First != 501 || log.Last != maxEvents+500 || log.Events[0].Sequence != 501 || log.Events[0].Action != "Action500" {
		t.Errorf("kept %d calls from %d to %d, first %+v", len(log.Events), log.First, log.Last, log.Events[0])
	}
	if after := c.log(log.Last - 1); len(after.Events) != 1 || after.Events[0].Sequence != log.Last {
		t.Errorf("after the last but one: %+v", after)
	}
	c.update(1, func(*Event) { t.Error("a call that is gone was changed") })
}
