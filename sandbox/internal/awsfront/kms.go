package awsfront

import (
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// useForeignKey lets a call on another account's key through to that account
// where the key's policy allows it. moto knows no keys but the caller's own.
// As everywhere in the front, the caller's own permission policies are not
// evaluated; KMS would ask for both.
func (f *Front) useForeignKey(c *call) *apiError {
	var in struct{ KeyId string }
	if refused := c.bind(&in); refused != nil {
		return refused
	}
	parts := strings.Split(in.KeyId, ":")
	if len(parts) != 6 || parts[2] != "kms" || parts[4] == c.caller.Account {
		return nil
	}
	account, region := parts[4], parts[3]
	denial := refuse(http.StatusBadRequest, "AccessDeniedException", "User: %s is not authorized to perform: kms:%s on resource: %s because no resource-based policy allows the kms:%s action",
		c.caller.ARN, c.action, in.KeyId, c.action)
	out, err := f.moto.kms(account, region).GetKeyPolicy(c.r.Context(), &kms.GetKeyPolicyInput{KeyId: &in.KeyId, PolicyName: aws.String("default")})
	if hasCode(err, "NotFoundException") {
		return denial
	}
	if err != nil {
		return internal(err)
	}
	policy, err := parsePolicy(aws.ToString(out.Policy))
	if err != nil {
		return internal(err)
	}
	keys, err := f.callerKeys(c)
	if err != nil {
		return internal(err)
	}
	if policy.decide(query{who: c.caller.principal(), action: "kms:" + c.action, resource: in.KeyId, context: keys}) != allowed {
		return denial
	}
	c.caller.Account = account
	return nil
}
