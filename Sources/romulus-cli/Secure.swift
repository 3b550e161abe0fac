import ArgumentParser
import RomulusHost

struct Secure: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Pauses a copy whose xl remus was killed while it had a replica; anything else is left as it is.",
        discussion: """
            For whoever starts xl remus and may kill all of it, as a service does: the backup takes over, and then the copy \
            here must not run. A run that has ended by itself, and one that goes on, are left alone.
            """)

    @Argument(help: "The guest's name.") var guest: String

    func run() throws {
        try LocalOrphan.ifThere(guest) { try OrphanedGuest(host: $0).secure() }
    }
}
