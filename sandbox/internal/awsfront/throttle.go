package awsfront

import (
	"net/http"
	"strings"
	"sync"

	"golang.org/x/time/rate"
)

// limit is how many calls a second an account may make, and how many at once.
type limit struct {
	rate  float64
	burst int
}

// limits are the rates of AWS by call, or by service where a service has one
// for all. Those of Organizations are AWS's published table; KMS's and S3's
// (of one prefix) are its stated quotas, the lower where they differ by region.
// For IAM, STS, EKS, CloudTrail and Parameter Store AWS states none, few, or
// some that an account can raise: theirs are what others have measured.
func limits() map[string]limit {
	out := map[string]limit{
		"iam": {20, 40}, "sts": {600, 600}, "eks": {10, 20}, "cloudtrail": {10, 10}, "cloudtrail:CreateTrail": {1, 1}, "cloudtrail:UpdateTrail": {1, 1},
		"s3": {3500, 3500}, "s3:GetObject": {5500, 5500}, "s3:HeadObject": {5500, 5500}, "s3:ListObjects": {5500, 5500},
		"kms": {1000, 1000}, "ssm": {10, 10}, "ssm:GetParameter": {40, 40}, "ssm:GetParameters": {40, 40}, "ssm:GetParametersByPath": {40, 40},
		"ssm:PutParameter": {3, 3},
	}
	for names, l := range map[string]limit{
		"CreateAccount": {0.1, 3}, "DescribeCreateAccountStatus": {2, 2}, "ListCreateAccountStatus": {5, 8}, "ListAccounts": {8, 12},
		"DescribeAccount": {20, 30}, "DescribeOrganization ListRoots CreateOrganizationalUnit": {1, 2},
		"MoveAccount UpdateOrganizationalUnit DeleteOrganizationalUnit": {2, 3}, "ListParents ListAccountsForParent ListOrganizationalUnitsForParent": {5, 8},
		"ListChildren": {6, 10}, "CreatePolicy UpdatePolicy DeletePolicy AttachPolicy DetachPolicy": {2, 3}, "DescribePolicy": {2, 2},
		"ListPolicies ListPoliciesForTarget": {5, 8}, "EnablePolicyType": {1, 1}, "EnableAWSServiceAccess": {1, 2},
		"TagResource UntagResource": {4, 6}, "ListTagsForResource": {10, 15}, "CloseAccount": {0.05, 1},
	} {
		for name := range strings.FieldsSeq(names) {
			out["organizations:"+name] = l
		}
	}
	for name := range strings.FieldsSeq("CreateKey CreateAlias UpdateAlias DisableKey EnableKey DisableKeyRotation CancelKeyDeletion UpdateKeyDescription UntagResource") {
		out["kms:"+name] = limit{5, 5}
	}
	for name := range strings.FieldsSeq("DeleteAlias EnableKeyRotation PutKeyPolicy ScheduleKeyDeletion") {
		out["kms:"+name] = limit{15, 15}
	}
	out["kms:TagResource"] = limit{10, 10}
	return out
}

// throttle holds a bucket of tokens for each account, region and limit.
type throttle struct {
	mu      sync.Mutex
	limits  map[string]limit
	buckets map[string]*rate.Limiter
}

// reset fills every bucket again.
func (t *throttle) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buckets = nil
}

// check takes a token for the call, or refuses it.
func (f *Front) checkRate(c *call) *apiError {
	if !f.settings.get().Throttle {
		return nil
	}
	name := c.service + ":" + c.action
	l, ok := f.throttle.limits[name]
	if !ok {
		name = c.service
		if l, ok = f.throttle.limits[name]; !ok {
			return nil
		}
	}
	f.throttle.mu.Lock()
	defer f.throttle.mu.Unlock()
	key := c.caller.Account + " " + c.region + " " + name
	if f.throttle.buckets == nil {
		f.throttle.buckets = map[string]*rate.Limiter{}
	}
	bucket := f.throttle.buckets[key]
	if bucket == nil {
		bucket = rate.NewLimiter(rate.Limit(l.rate), l.burst)
		f.throttle.buckets[key] = bucket
	}
	if bucket.AllowN(f.now(), 1) {
		return nil
	}
	return throttled(c.service)
}

// throttleCodes are the codes by which services say that it is too much.
var throttleCodes = map[string]bool{"Throttling": true, "ThrottlingException": true, "TooManyRequestsException": true, "SlowDown": true, "RequestLimitExceeded": true}

// throttled is a service's way to say that it is too much.
func throttled(service string) *apiError {
	switch service {
	case "organizations":
		return refuse(http.StatusBadRequest, "TooManyRequestsException", "AWS Organizations can't complete your request because of the number of requests, try again later.")
	case "s3":
		return refuse(http.StatusServiceUnavailable, "SlowDown", "Please reduce your request rate.")
	case "ec2":
		return refuse(http.StatusServiceUnavailable, "RequestLimitExceeded", "Request limit exceeded.")
	case "iam", "sts":
		return refuse(http.StatusBadRequest, "Throttling", "Rate exceeded")
	case "eks":
		return refuse(http.StatusTooManyRequests, "ThrottlingException", "Rate exceeded")
	}
	return refuse(http.StatusBadRequest, "ThrottlingException", "Rate exceeded")
}
