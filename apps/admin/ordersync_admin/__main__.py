from ordersync_admin.cli import main

main()
