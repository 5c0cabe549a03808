# slipway-terraform fills in what a stack declares and the landscape knows:
# account, account_id, region, landscape.

variable "account" {
  description = "Key of the account in the landscape."
  type        = string
}

variable "region" {
  description = "Region of the landscape."
  type        = string
}

variable "landscape" {
  description = "Name of the landscape."
  type        = string
}
