package awsfront

import (
	"net/http"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// foundKey is a KMS key, its state and its policy.
type foundKey struct {
	arn, account string
	state        types.KeyState
	guard        guard
}

// unusable is KMS's refusal to work with the key; nil for one that is enabled.
func (k foundKey) unusable() *apiError {
	switch k.state {
	case types.KeyStateEnabled:
		return nil
	case types.KeyStateDisabled:
		return refuse(http.StatusBadRequest, "DisabledException", "%s is disabled.", k.arn)
	case types.KeyStatePendingDeletion:
		return refuse(http.StatusBadRequest, "KMSInvalidStateException", "%s is pending deletion.", k.arn)
	}
	return refuse(http.StatusBadRequest, "KMSInvalidStateException", "%s is in the state %s, which is not valid for this request.", k.arn, k.state)
}

// usesKey reports whether a call of KMS works with the key's material, for
// which the key must be enabled.
func usesKey(action string) bool {
	return slices.Contains([]string{"Sign", "Verify", "Encrypt", "Decrypt", "GetPublicKey"}, action) || strings.HasPrefix(action, "GenerateDataKey")
}

// keyByIDAlone reports whether moto knows the key of the call by its bare id
// alone, where KMS knows it by its ARN too.
func keyByIDAlone(action string) bool {
	return slices.Contains([]string{"EnableKey", "DisableKey", "ScheduleKeyDeletion", "CancelKeyDeletion"}, action)
}

// findKey looks a key up by id, ARN or alias, in the caller's account or, by
// ARN, in another. It returns nil where there is none.
func (f *Front) findKey(c *call, id string) (*foundKey, *apiError) {
	account, region := c.caller.Account, c.region
	if parts := strings.Split(id, ":"); len(parts) == 6 && parts[2] == "kms" {
		account, region = parts[4], parts[3]
	}
	client := f.moto.kms(account, region)
	described, err := client.DescribeKey(c.r.Context(), &kms.DescribeKeyInput{KeyId: &id})
	if hasCode(err, "NotFoundException", "InvalidArnException", "ValidationException") {
		return nil, nil
	}
	if err != nil {
		return nil, internal(err)
	}
	arn := aws.ToString(described.KeyMetadata.Arn)
	out, err := client.GetKeyPolicy(c.r.Context(), &kms.GetKeyPolicyInput{KeyId: &arn, PolicyName: aws.String("default")})
	if err != nil {
		return nil, internal(err)
	}
	policy, err := parsePolicy(aws.ToString(out.Policy))
	if err != nil {
		return nil, internal(err)
	}
	return &foundKey{arn, account, described.KeyMetadata.KeyState, guard{policy: policy, foreign: account != c.caller.Account, sole: true}}, nil
}

// keyAsks asks for a right on a key. A call on another account's key goes on
// to that account: moto knows no keys but the caller's own.
func (f *Front) keyAsks(c *call) ([]ask, *apiError) {
	id := c.param("KeyId") + c.param("TargetKeyId")
	key, refused := f.findKey(c, id)
	if refused != nil {
		return nil, refused
	}
	if key == nil {
		if parts := strings.Split(id, ":"); len(parts) == 6 && parts[4] != c.caller.Account {
			return nil, f.foreignKeyDenial(c, id)
		}
		return nil, nil // the service says that there is no such key
	}
	action := permission(c.service, c.action)
	a := ask{action: action, resource: key.arn, guard: key.guard, context: keyContext(c)}
	if keyByIDAlone(c.action) {
		if refused := c.setParam("KeyId", key.arn[strings.LastIndexByte(key.arn, '/')+1:]); refused != nil {
			return nil, refused
		}
	}
	if usesKey(c.action) {
		a.unusable = key.unusable()
	}
	if key.guard.foreign {
		a.denial = f.foreignKeyDenial(c, id)
		c.target = key.account
	}
	out := []ask{a}
	if strings.HasSuffix(c.action, "Alias") {
		out = append(out, ask{action: action, resource: "arn:aws:kms:" + c.region + ":" + c.caller.Account + ":" + c.param("AliasName")})
	}
	return out, nil
}

// foreignKeyDenial does not tell whether another account's key exists.
func (f *Front) foreignKeyDenial(c *call, id string) *apiError {
	return refuse(400, "AccessDeniedException", "User: %s is not authorized to perform: kms:%s on resource: %s because the resource does not exist in this Region, no resource-based policies allow access, a resource-based policy explicitly denies access, or no identity-based policy allows the kms:%s action",
		c.caller.ARN, c.action, id, c.action)
}

func keyContext(c *call) map[string][]string {
	keys := map[string][]string{"kms:calleraccount": {c.caller.Account}}
	given, _ := c.params["EncryptionContext"].(map[string]any)
	for k, v := range given {
		if text, ok := v.(string); ok {
			keys["kms:encryptioncontext:"+strings.ToLower(k)] = []string{text}
			keys["kms:encryptioncontextkeys"] = append(keys["kms:encryptioncontextkeys"], k)
		}
	}
	return keys
}

// onKey is reached by calls that name no key: their ciphertext does, which the
// front cannot read.
func onKey(*Front, *call) ([]string, *apiError) {
	return nil, refuse(400, "ValidationException", "the sandbox judges only calls that name their key: KeyId is missing")
}

func onAlias(_ *Front, c *call) ([]string, *apiError) {
	return one("arn:aws:kms:%s:%s:%s", c.region, c.caller.Account, c.param("AliasName"))
}
