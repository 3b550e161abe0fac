import RomulusHost

/// Why a run was not begun, in the admin's words.
struct Refusal: Error {
    let text: String
    init(_ text: String) { self.text = text }
}

extension Configuration {
    static func loaded() throws(Refusal) -> Configuration {
        do throws(ConfigurationError) {
            return try Configuration(path: defaultPath)
        } catch {
            throw Refusal("\(error); correct the file, then start again")
        }
    }
}

extension Leftovers {
    static func found(of domainID: UInt32) throws(Refusal) -> Leftovers {
        do throws(NetworkBufferError) {
            return try Leftovers(of: domainID)
        } catch {
            throw Refusal("this host's network cannot be looked at: \(error)")
        }
    }
}

extension RunLock {
    static func taken(_ name: String) throws(Refusal) -> RunLock? {
        do throws(SystemError) {
            return try take(name)
        } catch {
            throw Refusal("cannot lock: \(error)")
        }
    }
}
