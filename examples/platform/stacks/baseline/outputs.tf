output "prefix" {
  description = "What the names of this account's resources start with."
  value       = terraform_data.naming.output
}
