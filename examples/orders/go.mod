module gitlab.example.com/nsflow/orders

go 1.26
