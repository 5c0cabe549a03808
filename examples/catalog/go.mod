module gitlab.example.com/nsflow/catalog

go 1.26
