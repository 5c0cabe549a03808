package estate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/organizations"
	"github.com/aws/aws-sdk-go-v2/service/organizations/types"

	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/report"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/bootstrap/internal/policy"
	"gitlab.com/slipway/slipway/tools/bootstrap/internal/resource"
)

// member is an account of the organisation, other than the management account.
type member struct {
	c      *Cloud
	api    *organizations.Client
	name   string
	parent string // where the account is, as last observed
}

// Account returns management: accounts are made one after another.
func (*member) Account() string { return landscape.Management }

// Name returns the resource's name.
func (r *member) Name() string { return "account " + r.name }

// find looks for the account by id, then by e-mail address, then by name.
func (r *member) find(ctx context.Context) (*types.Account, error) {
	l := r.c.facts.Source.Landscape
	id, email := l.Accounts[r.name].ID, l.EmailOf(r.name)
	var byEmail, byName *types.Account
	pages := organizations.NewListAccountsPaginator(r.api, &organizations.ListAccountsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, failed("ListAccounts", err)
		}
		for i := range page.Accounts {
			a := &page.Accounts[i]
			switch {
			case id != "" && aws.ToString(a.Id) == id:
				return a, nil
			case email != "" && strings.EqualFold(aws.ToString(a.Email), email):
				byEmail = a
			case aws.ToString(a.Name) == r.name:
				byName = a
			}
		}
	}
	switch {
	case id != "":
		return nil, notMember(id)
	case byEmail != nil:
		return byEmail, nil
	default:
		return byName, nil
	}
}

func notMember(id string) error {
	return tool.Exit(tool.Usage, fmt.Errorf("account %s is not in the organisation", id), "invite it, or take the id away to have an account made")
}

// stateOf reads State, and Status where an older API answers only that.
func stateOf(a *types.Account) string {
	if a.State != "" {
		return string(a.State)
	}
	return string(a.Status)
}

// Observe looks for the account, enters it and looks where it stands.
func (r *member) Observe(ctx context.Context) (resource.Observation, error) {
	var o resource.Observation
	if r.c.facts.Organization() == "" {
		if id := r.c.facts.Source.Landscape.Accounts[r.name].ID; id != "" {
			return o, notMember(id)
		}
		return resource.Absent(), nil
	}
	a, err := r.find(ctx)
	if err != nil {
		return o, err
	}
	if a == nil {
		return resource.Absent(r.c.facts.Source.Landscape.EmailOf(r.name)), nil
	}
	if state := stateOf(a); state != "ACTIVE" && state != "PENDING_ACTIVATION" {
		return o, tool.Exit(tool.Refused, fmt.Errorf("account %s is %s", aws.ToString(a.Id), state), "it can be reopened by AWS's support, or leave the landscape")
	}
	put(r.c.facts, r.c.facts.accounts, r.name, aws.ToString(a.Id))
	if joined := aws.ToTime(a.JoinedTimestamp); time.Since(joined) < newAccount {
		put(r.c.facts, r.c.facts.fresh, r.name, true) // an earlier run may have ended before it could be entered
	}
	if l := r.c.facts.Source.Landscape; l.Accounts[r.name].ID == "" && !strings.EqualFold(aws.ToString(a.Email), l.EmailOf(r.name)) {
		o.Findings = append(o.Findings, report.Finding{Level: "warning", Class: "adopted-by-name", Object: r.name,
			Message: fmt.Sprintf("account %q is %s for its name alone; its e-mail address is %q", r.name, aws.ToString(a.Id), aws.ToString(a.Email)),
			Next:    "write its id into the landscape, if it is the one that is meant"})
	}
	parents, err := r.api.ListParents(ctx, &organizations.ListParentsInput{ChildId: a.Id})
	if err != nil {
		return o, failed("ListParents", err)
	}
	if len(parents.Parents) != 1 {
		return o, fmt.Errorf("ListParents: account %s has %d parents", aws.ToString(a.Id), len(parents.Parents))
	}
	r.parent = aws.ToString(parents.Parents[0].Id)
	if ou := r.unit(); ou != "" {
		o.Differ(r.parent != get(r.c.facts, r.c.facts.units, ou), "move to "+ou)
	}
	return o, tool.Hint(r.c.enter(ctx, r.name), "an account that was invited lacks the role "+policy.AccessRole+": make it there, trusting the management account")
}

// newAccount is how long an account counts as one that may not be ready yet.
const newAccount = 30 * time.Minute

func (r *member) unit() string { return r.c.facts.Source.Landscape.Accounts[r.name].OU }

// Apply makes the account, where there is none, and moves it to its unit.
func (r *member) Apply(ctx context.Context) error {
	if r.c.facts.Account(r.name) == "" {
		id, err := r.create(ctx)
		if err != nil {
			return err
		}
		put(r.c.facts, r.c.facts.accounts, r.name, id)
		put(r.c.facts, r.c.facts.fresh, r.name, true)
		r.parent = r.c.facts.rootID()
	}
	ou := r.unit()
	if ou == "" || r.parent == get(r.c.facts, r.c.facts.units, ou) {
		return nil
	}
	_, err := r.api.MoveAccount(ctx, &organizations.MoveAccountInput{AccountId: aws.String(r.c.facts.Account(r.name)),
		SourceParentId: &r.parent, DestinationParentId: aws.String(get(r.c.facts, r.c.facts.units, ou))})
	return failed("MoveAccount", err)
}

var errCreating = errors.New("the account is still being made")

// create makes the account and waits for it. A creation that failed for a
// reason that passes is tried again.
func (r *member) create(ctx context.Context) (string, error) {
	for tries := 1; ; tries++ {
		request, err := r.request(ctx)
		if err != nil {
			return "", err
		}
		id, reason, err := r.follow(ctx, request)
		switch {
		case errors.Is(err, errCreating):
			return "", tool.Hint(fmt.Errorf("making account %q: after %s it is still being made (request %s)", r.name, r.c.patience.Creation, request),
				"run it again: it follows the same request")
		case err != nil || reason == "":
			return id, err
		case passing(reason) && tries < 3:
			continue
		}
		return "", tool.Hint(fmt.Errorf("making account %q: %s", r.name, reason), reasonHint(reason))
	}
}

// request asks for the account. CreateAccount has no idempotency token: a
// creation that an earlier run began is followed, not repeated, and the call
// is not made again where no answer came.
func (r *member) request(ctx context.Context) (string, error) {
	request, err := r.begun(ctx)
	if err != nil || request != "" {
		return request, err
	}
	out, err := r.api.CreateAccount(ctx, &organizations.CreateAccountInput{AccountName: &r.name,
		Email: aws.String(r.c.facts.Source.Landscape.EmailOf(r.name)), RoleName: aws.String(policy.AccessRole),
		Tags: []types.Tag{{Key: aws.String(tagLandscape), Value: &r.c.facts.Source.Landscape.Name}}},
		func(o *organizations.Options) { o.Retryer = once{o.Retryer} })
	if err != nil {
		return "", tool.Hint(failed("CreateAccount", err), "run it again: it looks for an account with this name or address before it makes one")
	}
	return aws.ToString(out.CreateAccountStatus.Id), nil
}

// follow waits until the request has an end: the account's id, or the reason
// why there is none.
func (r *member) follow(ctx context.Context, request string) (id string, reason types.CreateAccountFailureReason, err error) {
	err = resource.Retry(ctx, r.c.patience.Creation, func(err error) bool { return errors.Is(err, errCreating) }, func() error {
		out, err := r.api.DescribeCreateAccountStatus(ctx, &organizations.DescribeCreateAccountStatusInput{CreateAccountRequestId: &request})
		if err != nil {
			return failed("DescribeCreateAccountStatus", err)
		}
		switch s := out.CreateAccountStatus; s.State {
		case types.CreateAccountStateSucceeded:
			id = aws.ToString(s.AccountId)
		case types.CreateAccountStateFailed:
			reason = cmp.Or(s.FailureReason, "no reason was given")
		default:
			return errCreating
		}
		return nil
	})
	return id, reason, err
}

// passing reports whether a failure may not happen again.
func passing(reason types.CreateAccountFailureReason) bool {
	return reason == types.CreateAccountFailureReasonInternalFailure || reason == types.CreateAccountFailureReasonConcurrentAccountModification
}

// begun returns the request of a creation of this account that is under way.
func (r *member) begun(ctx context.Context) (string, error) {
	pages := organizations.NewListCreateAccountStatusPaginator(r.api, &organizations.ListCreateAccountStatusInput{
		States: []types.CreateAccountState{types.CreateAccountStateInProgress}})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return "", failed("ListCreateAccountStatus", err)
		}
		for _, s := range page.CreateAccountStatuses {
			if aws.ToString(s.AccountName) == r.name && s.State == types.CreateAccountStateInProgress {
				return aws.ToString(s.Id), nil
			}
		}
	}
	return "", nil
}

func reasonHint(reason types.CreateAccountFailureReason) string {
	switch reason {
	case types.CreateAccountFailureReasonEmailAlreadyExists:
		return "an account outside of this organisation, or a closed one, has the address: choose another in the landscape"
	case types.CreateAccountFailureReasonAccountLimitExceeded:
		return "ask AWS for more accounts (Service Quotas, AWS Organizations); closed accounts count until they are gone"
	case types.CreateAccountFailureReasonInvalidEmail, types.CreateAccountFailureReasonInvalidAddress:
		return "correct the e-mail address in the landscape"
	case types.CreateAccountFailureReasonMissingPaymentInstrument, types.CreateAccountFailureReasonInvalidPaymentInstrument:
		return "give the management account a valid payment method (Billing and Cost Management), then run it again"
	case types.CreateAccountFailureReasonMissingBusinessValidation, types.CreateAccountFailureReasonFailedBusinessValidation,
		types.CreateAccountFailureReasonPendingBusinessVALIDATIONv, types.CreateAccountFailureReasonInvalidIdentityForBusinessValidation,
		types.CreateAccountFailureReasonUnknownBusinessValidation:
		return "AWS has to validate the business of the management account first: see its messages there, or ask its support"
	default:
		return "run it again; if it stays, AWS's support knows the reason"
	}
}

// tagLandscape names the landscape that made a thing.
const tagLandscape = "slipway:landscape"
