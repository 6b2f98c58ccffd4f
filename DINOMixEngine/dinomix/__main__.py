from dinomix.cli import main

main()
