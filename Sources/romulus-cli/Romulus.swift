import ArgumentParser
import RomulusCore

@main
struct Romulus: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "romulus",
        abstract:
            "Looks whether hosts are ready, shows what protects this host's guests, and decides for one whose protection is "
            + "in doubt.",
        discussion: """
            Protection itself is started with xl remus.

            Exit status: 0 for what was asked; 1 where it could not be done, with one line that says why; 64 for a command \
            line that is not understood.
            """,
        version: Version.romulus,
        subcommands: [
            Check.self, Status.self, Top.self, Events.self, Resume.self, Yield.self, Secure.self, Test.self,
        ])
}

/// One line for the admin; the exit status is 1.
struct Failure: Error, CustomStringConvertible {
    let description: String
}

func failure(_ text: String) -> Failure { Failure(description: text) }
