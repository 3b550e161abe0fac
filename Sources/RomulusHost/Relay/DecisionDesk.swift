import Glibc
import RomulusCore

/// Where a relay hears who goes on: from its arbiter, or from the admin, whose word counts in the arbiter's place. Whoever asks
/// how the run fares is answered here as well. Used on the relay's thread only.
struct DecisionDesk {
    private var admin: AdminSocket?
    /// Nil where there is none, or none yet.
    private(set) var arbiter: ArbiterDesk?
    private let log: Log

    init(admin: AdminSocket?, arbiter: ArbiterDesk?, log: Log) {
        self.admin = admin
        self.arbiter = arbiter
        self.log = log
    }

    var adminDescriptor: Int32 { admin?.descriptor ?? -1 }
    var verdictDescriptor: Int32 { arbiter?.descriptor ?? -1 }

    mutating func arbiterIsThere(_ arbiter: ArbiterDesk?) { self.arbiter = arbiter }

    // MARK: The admin

    /// What the admin has said, which is to be answered.
    func hear(status: () -> SessionStatus) -> AdminWord? {
        guard let admin, let request = admin.receive() else { return nil }
        if let word = request.word { return word }
        admin.answer(status().json.encoded())
        return nil
    }

    func answer(_ text: String) { admin?.answer(text) }

    /// The word decides, by way of the arbiter where there is one.
    ///
    /// - Returns: whether there is none: the word is the session's to hear, at once.
    func settle(_ word: AdminWord) -> Bool {
        do throws(SystemError) {
            let isTaken = try presentArbiter().settle(word)
            answer(isTaken ? "ok" : "the opposite was said before, and is carried out")
            return false
        } catch {
            answer("ok")
            return true
        }
    }

    /// What is left to do may take long, and nobody answers there meanwhile.
    mutating func stopAnswering() { admin = nil }

    // MARK: The arbiter

    /// - Parameter advice: what is left where it cannot be asked.
    func ask(orElse advice: String) {
        do throws(SystemError) {
            try presentArbiter().ask()
        } catch {
            log.error("the arbiter could not be asked (\(error)): \(advice)")
        }
    }

    private func presentArbiter() throws(SystemError) -> ArbiterDesk {
        guard let arbiter else { throw SystemError("no arbiter", code: ENOENT) }
        return arbiter
    }
}
