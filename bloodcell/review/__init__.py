"""The review desk: where people look at the night's results, correct and sign them.

    serving            serves the application
    application        the application: its routes, and what each error answers
    services           what the routes work with
    guards             what every request passes first: size, origin, session; the headers of every answer

    login_pages        logging in and out
    sessions           sessions of people
    people             who somebody is, and what each role may do
    local_users        people with a password of bloodcell's own (`bloodcell users`)
    users_file         the file of those people
    passwords          which passwords are allowed, and their hashes
    first_person       how the first person gets in

    pages, worklist    the worklist
    slide_routes       the page of a slide, and what people do there
    slide_page         what that page shows
    cell_detail        what the large view of a cell shows
    live_result        the result that a count of now would give
    sprites            thumbnails
    reading_routes     blind reading, second reading, adjudication
    validation_pages   the validation of a candidate, for whoever approves it
    writing            labels, comments, leases and signatures, through functions of the database

    desk_records       what pages and API exchange with the browser
    navigation         the pages of the desk, and what waits on each
    texts              the texts, by language
    static_files       scripts and styles

The database functions are in sql/views/75_review_desk.sql: each looks up whose session it is, so that no request can
act in another person's name.
"""
