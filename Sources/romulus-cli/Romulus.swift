import ArgumentParser
import RomulusCore
import RomulusHost

@main
struct Romulus: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "romulus",
        abstract: "Decides for a guest whose protection is in doubt, and tries what decides without you.",
        discussion: "Protection itself is started with xl remus.",
        subcommands: [Resume.self, Yield.self, Test.self])
}

struct Resume: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "The copy on this host is the one that goes on.",
        discussion: """
            On the primary, a frozen guest runs again and its held output is let out; on the backup, a replica whose \
            primary is in doubt is activated. Say it on one host only, and only when the other copy does not run and will \
            not.
            """)

    @Argument(help: "The guest's name.") var guest: String

    func run() throws {
        if try decide(.resume, guest) { return }
        guard OrphanedGuest.resume(guest) else {
            throw failure("no xl remus of \(guest) runs here, and no paused copy is left")
        }
        print("the guest runs on here; the xl remus that protected it is gone")
    }
}

struct Yield: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "The copy on this host goes away; the other host's goes on.",
        discussion: """
            On the primary, the frozen guest and its held output are thrown away; on the backup, the replica is \
            discarded.
            """)

    @Argument(help: "The guest's name.") var guest: String

    func run() throws {
        if try decide(.yield, guest) { return }
        throw failure("no xl remus of \(guest) runs here; a copy that is left is removed with xl destroy \(guest)")
    }
}

struct Test: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Whether the arbiter in /etc/xen/romulus.conf works, without harm to anybody.",
        discussion: "Each line says ok or problem. The exit status is 0 when there is no problem.")

    @Option(help: "Another configuration file.") var file = Configuration.defaultPath

    func run() throws {
        let settings: Configuration
        do throws(ConfigurationError) { settings = try Configuration(path: file) } catch { throw failure("\(error)") }
        guard
            let arbiter = makeArbiter(
                settings, guestUUID: "test", hostName: "test", run: 0, log: Log(guest: ""))
        else {
            print(
                "ok       no arbiter: a backup takes over when its primary is silent; a primary whose backup is silent")
            print("         freezes the guest and waits for romulus resume or romulus yield")
            return
        }
        let lines = arbiter.test()
        for line in lines { print(line.isProblem ? "problem  \(line.text)" : "ok       \(line.text)") }
        if lines.contains(where: \.isProblem) { throw ExitCode(1) }
    }
}

/// Asks the session of that guest on this host, whichever side it is.
///
/// - Returns: false where there is none.
private func decide(_ request: AdminSocket.Request, _ guest: String) throws -> Bool {
    for side in ["primary", "backup"] {
        do throws(SystemError) {
            guard let answer = try AdminSocket.ask(request, of: "\(guest).\(side)") else { continue }
            guard answer == "ok" else { throw SystemError(answer, code: 0) }
            return true
        } catch {
            throw failure(error.code == 0 ? error.call : "\(error)")
        }
    }
    return false
}

/// One line for the admin; the exit status is 1.
private struct Failure: Error, CustomStringConvertible {
    let description: String
}

private func failure(_ text: String) -> Failure { Failure(description: text) }
