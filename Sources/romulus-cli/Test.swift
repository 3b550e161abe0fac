import ArgumentParser
import RomulusHost

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
        try show(arbiter.test())
    }
}
